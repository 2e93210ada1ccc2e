//! Long work over the admin socket: the answer is a stream of JSON lines, what happens as it
//! happens and the report as the last one. A caller that goes away ends the work, at its next step.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::ops::Progress;
use crate::ops::progress::Event;
use crate::registry::error::Result;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The work goes on.
    Event(Event),
    /// The last line: how it ended.
    End(End),
}

/// How work ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum End {
    /// It did what was asked.
    Done {
        /// What there is to say of it.
        report: Value,
    },
    /// It failed.
    Failed {
        /// Why, and what to do.
        error: String,
    },
}

/// Runs `work` and answers with its news and its end.
pub fn run<R, F>(work: impl FnOnce(Progress) -> F) -> Response
where
    R: Serialize,
    F: Future<Output = Result<R>> + Send + 'static,
{
    let (progress, news) = Progress::channel();
    let work = work(progress);
    let running = Running(tokio::spawn(async move {
        let report = work.await.map_err(|error| error.to_string())?;
        serde_json::to_value(report).map_err(|error| error.to_string())
    }));
    // The news ends when the work is over, so nothing that it said comes after its end.
    let news = stream::unfold(news, |mut news| async move {
        let event = news.recv().await?;
        Some((line(&Line::Event(event)), news))
    });
    let end = stream::once(async move { line(&Line::End(running.end().await)) });
    let body = Body::from_stream(news.chain(end).map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Work in a task of its own: with its caller gone it still finishes the step that it is in.
struct Running(JoinHandle<std::result::Result<Value, String>>);

impl Running {
    async fn end(self) -> End {
        match self.0.await {
            Ok(Ok(report)) => End::Done { report },
            Ok(Err(error)) => End::Failed { error },
            Err(error) => End::Failed { error: format!("the work broke off: {error}") },
        }
    }
}

fn line(line: &Line) -> Bytes {
    // Plain values with text keys: there is nothing in them that JSON cannot say.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
