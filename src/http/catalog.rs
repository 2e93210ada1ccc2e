//! `/v2/_catalog`: the repositories (distribution's API, not in the specification).

use axum::http::header;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::link;
use super::reply::Reply;
use super::route::PageQuery;
use crate::oci::RepositoryName;

/// Length of a page when the client names none, as in distribution.
const ENTRIES_DEFAULT: usize = 100;

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: Vec<&'a str>,
}

/// `GET`: a page of repositories by bytes. A page longer than the limit is refused, as
/// distribution does.
pub async fn list(api: &Api, page: PageQuery) -> Result<Reply, ApiError> {
    let entries_max = api.options().catalog_entries_max;
    let limit = match page.n.map(usize::try_from) {
        None => ENTRIES_DEFAULT.min(entries_max),
        Some(Ok(n)) if n <= entries_max => n,
        Some(_) => return Err(ApiError::PageTooLong { entries_max }),
    };
    let listed = api.registry().catalog(page.last.as_deref(), limit).await?;
    let repositories = listed.items.iter().map(RepositoryName::as_str).collect();
    // Strings always serialise.
    let document = serde_json::to_vec(&Catalog { repositories }).unwrap_or_default();
    let reply = Reply::json("application/json", document);
    Ok(match listed.items.last() {
        Some(last) if listed.more => {
            let path = format!("{}v2/_catalog", api.options().prefix);
            let limit = limit.to_string();
            let parameters = [("last", last.as_str()), ("n", limit.as_str())];
            reply.text(header::LINK, &link::next(&path, &parameters))
        }
        _ => reply,
    })
}
