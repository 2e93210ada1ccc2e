//! What load balancers and orchestrators ask. No route of the API: outside of its prefix, and
//! of authentication.

use axum::http::{Method, StatusCode, header};
use axum::response::Response;

use super::Api;
use super::error::ApiError;
use super::reply::Reply;
use super::route::RouteError;

/// The service is there, as in distribution.
pub const ROOT: &str = "/";
/// The process is up.
pub const LIVE: &str = "/healthz";
/// Requests are served, pushes too.
pub const READY: &str = "/readyz";

const NOT_ALLOWED: RouteError = RouteError::MethodNotAllowed { allow: &["GET", "HEAD", "OPTIONS"] };
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Answers a probe of one of these paths.
pub async fn probe(api: Api, method: Method, path: &'static str) -> Response {
    let status = match method {
        Method::GET | Method::HEAD if path == READY && !api.is_ready() => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Method::GET | Method::HEAD => StatusCode::OK,
        Method::OPTIONS => {
            return Reply::empty(StatusCode::OK).text(header::ALLOW, ALLOW).into_response();
        }
        _ => return ApiError::from(NOT_ALLOWED).into_reply(ALLOW).into_response(),
    };
    Reply::empty(status).text(header::CACHE_CONTROL, "no-cache").into_response()
}
