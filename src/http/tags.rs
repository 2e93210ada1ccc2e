//! `/v2/<name>/tags/list` (distribution-spec, end-8).

use axum::http::header;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::link;
use super::reply::Reply;
use super::route::PageQuery;
use crate::oci::{RepositoryName, Tag};

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: Vec<&'a str>,
}

/// `GET`: a page of tags by bytes. A longer page than the limit is cut to it, and leads on.
pub async fn list(api: &Api, repo: &RepositoryName, page: PageQuery) -> Result<Reply, ApiError> {
    let tags_max = api.options().tags_max;
    let wanted = page.n.map_or(tags_max, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let limit = wanted.min(tags_max);
    let listed = api.registry().tags(repo, page.last.as_deref(), limit).await?;
    let tags = listed.items.iter().map(Tag::as_str).collect();
    let document = TagList { name: repo.as_str(), tags };
    // Strings always serialise.
    let document = serde_json::to_vec(&document).unwrap_or_default();
    let reply = Reply::json("application/json", document);
    Ok(match listed.items.last() {
        Some(last) if listed.more => {
            let path = format!("{}v2/{repo}/tags/list", api.options().prefix);
            let limit = limit.to_string();
            let parameters = [("last", last.as_str()), ("n", limit.as_str())];
            reply.text(header::LINK, &link::next(&path, &parameters))
        }
        _ => reply,
    })
}
