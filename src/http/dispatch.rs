//! From a request to the handler of its endpoint.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::Response;
use tracing::Span;

use super::error::ApiError;
use super::extract::RequestBody;
use super::reply::{DOCKER_DISTRIBUTION_API_VERSION, Reply};
use super::route::{Route, RouteError};
use super::{Api, base, blobs, catalog, manifests, referrers, tags, uploads};
use crate::registry;

/// Every method that some endpoint takes, for `OPTIONS *`.
const METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// What is kept of a request. The rest of its head goes at once: a head keeps the buffer that the
/// connection read it into, and the body of an upload may take hours.
struct Asked {
    method: Method,
    /// Without the prefix.
    path: String,
    route: Result<Route, RouteError>,
    headers: HeaderMap,
    body: RequestBody,
}

impl Asked {
    fn new(api: &Api, request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        // The prefix ends with the slash that the API's own paths begin with.
        let prefix = &api.options().prefix[..api.options().prefix.len() - 1];
        let path = head.uri.path().strip_prefix(prefix).unwrap_or_default();
        Self {
            route: Route::parse(head.method.as_str(), path, head.uri.query()),
            path: path.to_owned(),
            method: head.method,
            headers: head.headers,
            body: RequestBody::new(body),
        }
    }
}

/// Answers a request of the API.
pub async fn dispatch(State(api): State<Api>, request: Request<Body>) -> Response {
    if request.uri().path() == "*" {
        return Reply::empty(StatusCode::OK).text(header::ALLOW, METHODS).into_response();
    }
    let Asked { method, path, route, headers, body } = Asked::new(&api, request);
    let answered = match route {
        Err(error) => Err(error.into()),
        Ok(Route::Options { .. }) => {
            let allow = allowed(&api, &path, &Method::TRACE);
            Ok(Reply::empty(StatusCode::OK).text(header::ALLOW, &allow))
        }
        Ok(route) => {
            record(&route);
            match refused_by_settings(&api, &method, &route) {
                Some(error) => Err(error.into()),
                None => handle(&api, headers, route, body).await,
            }
        }
    };
    let reply =
        answered.unwrap_or_else(|error: ApiError| error.into_reply(&allowed(&api, &path, &method)));
    reply.text(DOCKER_DISTRIBUTION_API_VERSION, "registry/2.0").into_response()
}

fn record(route: &Route) {
    let span = Span::current();
    span.record("route", route.name());
    if let Some(repository) = route.repository() {
        span.record("repo.name", repository.as_str());
    }
}

/// What the settings forbid is refused before a byte of the body is read.
fn refused_by_settings(api: &Api, method: &Method, route: &Route) -> Option<registry::Error> {
    let options = api.registry().options();
    let deletes = matches!(route, Route::DeleteManifest { .. } | Route::DeleteBlob { .. });
    match () {
        () if options.read_only && !is_read(method.as_str()) => Some(registry::Error::ReadOnly),
        () if deletes && !options.delete_enabled => Some(registry::Error::DeleteDisabled),
        () => None,
    }
}

fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// The methods that the endpoint takes under the settings, but for one that was just refused.
fn allowed(api: &Api, path: &str, refused: &Method) -> String {
    let Ok(Route::Options { allow }) = Route::parse("OPTIONS", path, None) else {
        return String::new();
    };
    let options = api.registry().options();
    // Only upload sessions have PATCH: ending one's own upload is no deletion.
    let deletes = options.delete_enabled || allow.contains(&"PATCH");
    let allow = allow.iter().copied().filter(|method| {
        let settings_allow = match *method {
            "DELETE" => deletes && !options.read_only,
            other => is_read(other) || !options.read_only,
        };
        settings_allow && *method != refused.as_str()
    });
    allow.collect::<Vec<_>>().join(", ")
}

async fn handle(
    api: &Api,
    headers: HeaderMap,
    route: Route,
    body: RequestBody,
) -> Result<Reply, ApiError> {
    match route {
        // Answered before.
        Route::Options { .. } => Err(RouteError::NotFound.into()),
        Route::Base => Ok(base::base()),
        Route::Catalog { page } => catalog::list(api, page).await,
        Route::ListTags { repository, page } => tags::list(api, &repository, page).await,
        Route::GetManifest { repository, reference } => {
            manifests::get(api, &headers, &repository, &reference).await
        }
        Route::HeadManifest { repository, reference } => {
            manifests::head(api, &headers, &repository, &reference).await
        }
        Route::PutManifest { repository, reference, tags } => {
            manifests::put(api, headers, repository, reference, tags, body).await
        }
        Route::DeleteManifest { repository, reference } => {
            manifests::delete(api, &repository, &reference).await
        }
        Route::GetBlob { repository, digest } => {
            blobs::get(api, &headers, &repository, &digest).await
        }
        Route::HeadBlob { repository, digest } => {
            blobs::head(api, &headers, &repository, &digest).await
        }
        Route::DeleteBlob { repository, digest } => blobs::delete(api, &repository, &digest).await,
        Route::ListReferrers { repository, subject, artifact_types, last } => {
            referrers::list(api, &repository, &subject, &artifact_types, last.as_ref()).await
        }
        Route::BeginUpload { repository, algorithm } => {
            uploads::begin(api, &repository, algorithm).await
        }
        Route::PushBlob { repository, digest } => {
            uploads::push(api, &repository, &digest, body.into_chunk(headers)?).await
        }
        Route::MountBlob { repository, digest, from, algorithm } => {
            uploads::mount(api, &repository, &digest, from.as_ref(), algorithm).await
        }
        Route::UploadStatus { repository, id } => uploads::status(api, &repository, id).await,
        Route::AppendUpload { repository, id } => {
            uploads::append(api, &repository, id, body.into_chunk(headers)?).await
        }
        Route::FinishUpload { repository, id, digest } => {
            uploads::finish(api, &repository, id, &digest, body.into_chunk(headers)?).await
        }
        Route::CancelUpload { repository, id } => uploads::cancel(api, &repository, id).await,
    }
}
