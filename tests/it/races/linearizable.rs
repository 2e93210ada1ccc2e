//! what concurrent clients see of the real server is linearizable.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::history::{Record, Recorder, check_all};
use super::repository::{Answer, BLOBS, DOCUMENTS, Op, Repository, SUBJECT};
use super::session::{self, CHUNK, Session};
use super::shuffled::Random;
use super::{result, scaled};
use crate::support::client::strings;
use crate::support::image::descriptor;
use crate::support::{
    Client, OCI_INDEX, OCI_MANIFEST, OCTETS, Response, Server, at_once, random_bytes, sha256,
};

const CLIENTS: usize = 16;
const REPOSITORIES: usize = 4;
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The contents of one history, like no other's.
pub struct Contents {
    blobs: Vec<Vec<u8>>,
    manifests: Vec<Vec<u8>>,
    media_types: Vec<&'static str>,
    digests: Vec<String>,
}

impl Contents {
    pub fn new() -> Self {
        // Small ones are stored inline, the last one as a file.
        let blobs: Vec<_> = (0..BLOBS)
            .map(|blob| random_bytes(if blob + 1 == BLOBS { 70_000 } else { 100 }))
            .collect();
        let mut contents = Self { blobs, manifests: vec![], media_types: vec![], digests: vec![] };
        for number in 0..DOCUMENTS.len() {
            let (media_type, document) = contents.document(number);
            let bytes = document.to_string().into_bytes();
            contents.digests.push(sha256(&bytes));
            contents.manifests.push(bytes);
            contents.media_types.push(media_type);
        }
        contents
    }

    fn document(&self, number: usize) -> (&'static str, Value) {
        let document = DOCUMENTS[number];
        let of_manifest = |it: usize| descriptor(self.media_types[it], &self.manifests[it]);
        if document.children != 0 {
            let children = (0..number).filter(|it| document.children & (1 << it) != 0);
            let children: Vec<_> = children.map(of_manifest).collect();
            let index =
                json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
            return (OCI_INDEX, index);
        }
        let blobs = (0..self.blobs.len()).filter(|it| document.blobs & (1 << it) != 0);
        let blobs: Vec<_> = blobs.map(|it| descriptor(LAYER, &self.blobs[it])).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": blobs[0],
            "layers": blobs,
            "annotations": { "number": number.to_string() },
        });
        if let Some(subject) = document.subject {
            manifest["subject"] = of_manifest(usize::from(subject));
        }
        (OCI_MANIFEST, manifest)
    }

    fn number(&self, digest: &str) -> u8 {
        let at = self.digests.iter().position(|it| it == digest);
        at.unwrap_or_else(|| panic!("{digest} was never pushed")) as u8
    }
}

/// One client at one repository.
pub struct Asker<'a> {
    pub client: &'a Client,
    pub contents: &'a Contents,
    pub repo: &'a str,
}

impl Asker<'_> {
    /// `None`: no answer came.
    pub fn ask(&self, op: Op, random: &mut Random) -> Option<Answer> {
        let repo = self.repo;
        let plainly = |method: &str, path: String| {
            self.client.manifest_request(method, repo, &path).send_or_cut().map(done)
        };
        let digest = |manifest: u8| self.contents.digests[usize::from(manifest)].clone();
        match op {
            Op::PutTag { tag, manifest } => self.put(&format!("t{tag}"), manifest, None),
            Op::PutTagIf { tag, manifest, seen } => {
                let condition = match seen {
                    Some(seen) => ("If-Match", format!("\"{}\"", digest(seen))),
                    None => ("If-None-Match", "*".to_owned()),
                };
                self.put(&format!("t{tag}"), manifest, Some(condition))
            }
            Op::PutManifest { manifest } => self.put(&digest(manifest), manifest, None),
            Op::GetTag { tag } => self.tag(tag, random.percent(50)),
            Op::GetManifest { manifest } => self.manifest(manifest),
            Op::ListTags => self.tags(),
            Op::ListReferrers => self.referrers(),
            Op::DeleteTag { tag } => plainly("DELETE", format!("t{tag}")),
            Op::DeleteManifest { manifest } => plainly("DELETE", digest(manifest)),
            Op::PutBlob { blob } => self.upload(blob, random.percent(50)),
            Op::GetBlob { blob } => self.blob(blob, random.percent(50)),
            Op::DeleteBlob { blob } => {
                let path = format!("/v2/{repo}/blobs/{}", self.blob_digest(blob));
                self.client.request("DELETE", &path).send_or_cut().map(done)
            }
            Op::MountBlob { .. } => unreachable!("needs two repositories"),
        }
    }

    fn blob_digest(&self, blob: u8) -> String {
        sha256(&self.contents.blobs[usize::from(blob)])
    }

    fn put(&self, to: &str, manifest: u8, condition: Option<(&str, String)>) -> Option<Answer> {
        let manifest = usize::from(manifest);
        let mut request = self
            .client
            .request("PUT", &format!("/v2/{}/manifests/{to}", self.repo))
            .header("Content-Type", self.contents.media_types[manifest])
            .body(&self.contents.manifests[manifest]);
        if let Some((name, value)) = condition {
            request = request.header(name, &value);
        }
        request.send_or_cut().map(done)
    }

    fn tag(&self, tag: u8, whole: bool) -> Option<Answer> {
        let method = if whole { "GET" } else { "HEAD" };
        let request = self.client.manifest_request(method, self.repo, &format!("t{tag}"));
        let answer = request.send_or_cut()?;
        if answer.status != 200 {
            return Some(done(answer));
        }
        if whole {
            assert_eq!(sha256(&answer.body), answer.digest(), "the body is another");
        }
        Some(Answer::At(self.contents.number(answer.digest())))
    }

    fn manifest(&self, manifest: u8) -> Option<Answer> {
        let digest = &self.contents.digests[usize::from(manifest)];
        let answer = self.client.manifest_request("GET", self.repo, digest).send_or_cut()?;
        if answer.status == 200 {
            assert!(answer.body == self.contents.manifests[usize::from(manifest)]);
        }
        Some(done(answer))
    }

    fn tags(&self) -> Option<Answer> {
        let path = format!("/v2/{}/tags/list", self.repo);
        let answer = self.client.request("GET", &path).send_or_cut()?;
        if answer.status == 404 {
            return Some(Answer::Absent);
        }
        let tags = strings(&answer.expect(200).json()["tags"]);
        let number = |tag: &String| tag[1..].parse::<u8>().unwrap();
        Some(Answer::Set(tags.iter().fold(0, |set, tag| set | 1 << number(tag))))
    }

    fn referrers(&self) -> Option<Answer> {
        let subject = &self.contents.digests[usize::from(SUBJECT)];
        let path = format!("/v2/{}/referrers/{subject}", self.repo);
        let list = self.client.request("GET", &path).send_or_cut()?.expect(200).json();
        let digests = list["manifests"].as_array().unwrap().iter().map(|it| &it["digest"]);
        let numbers = digests.map(|digest| self.contents.number(digest.as_str().unwrap()));
        Some(Answer::Set(numbers.fold(0, |set, number| set | 1 << number)))
    }

    fn upload(&self, blob: u8, at_once: bool) -> Option<Answer> {
        let bytes = &self.contents.blobs[usize::from(blob)];
        let path = format!("/v2/{}/blobs/uploads/", self.repo);
        let digest = self.blob_digest(blob).replace(':', "%3A");
        let url = if at_once {
            format!("{path}?digest={digest}")
        } else {
            let begun = self.client.request("POST", &path).send_or_cut()?;
            format!("{}?digest={digest}", begun.expect(202).location())
        };
        let method = if at_once { "POST" } else { "PUT" };
        let request = self.client.request(method, &url).header("Content-Type", OCTETS);
        Some(done(request.body(bytes).send_or_cut()?.expect(201)))
    }

    fn blob(&self, blob: u8, whole: bool) -> Option<Answer> {
        let path = format!("/v2/{}/blobs/{}", self.repo, self.blob_digest(blob));
        let method = if whole { "GET" } else { "HEAD" };
        let answer = self.client.request(method, &path).send_or_cut()?;
        if whole && answer.status == 200 {
            assert!(answer.body == self.contents.blobs[usize::from(blob)]);
        }
        Some(done(answer))
    }

    /// 201 is a read of the source and a write here; 202 says that the source had none.
    fn mount(&self, blob: u8, from: &str) -> Option<Answer> {
        let digest = self.blob_digest(blob).replace(':', "%3A");
        let path = format!("/v2/{}/blobs/uploads/?mount={digest}&from={from}", self.repo);
        let answer = self.client.request("POST", &path).send_or_cut()?;
        Some(if answer.status == 202 { Answer::Absent } else { done(answer.expect(201)) })
    }
}

fn done(answer: Response) -> Answer {
    match answer.status {
        200..300 => Answer::Done,
        404 => Answer::Absent,
        405 => Answer::Needed,
        412 => Answer::Unmet,
        _ => {
            let _ = answer.expect_error(400, "MANIFEST_BLOB_UNKNOWN");
            Answer::Incomplete
        }
    }
}

/// Writes a record of what `ask` does.
fn record<O: Copy + Serialize, A: Copy + Serialize>(
    recorder: &Recorder,
    client: usize,
    things: &[(String, O)],
    ask: impl FnOnce() -> Option<A>,
) -> Option<A> {
    let called_ns = recorder.now_ns();
    let answer = ask();
    let returned_ns = answer.is_some().then(|| recorder.now_ns());
    for (key, op) in things {
        let (key, op) = (key.clone(), *op);
        recorder.write(&Record { client, key, op, called_ns, returned_ns, answer });
    }
    answer
}

/// The clients ask until each has asked `requests` times or the server goes away.
fn ask_around(
    server: &Server,
    recorder: &Recorder,
    contents: &Contents,
    names: &[String],
    requests: usize,
) {
    at_once(CLIENTS, |number| {
        let client = server.client();
        let mut random = Random(u64::from_ne_bytes(random_bytes(8).try_into().unwrap()));
        for _ in 0..requests {
            let (op, at) = (Op::random(&mut random), random.index(names.len()));
            let asker = Asker { client: &client, contents, repo: &names[at] };
            let answer = if let Op::MountBlob { blob } = op {
                let source = &names[(at + 1) % names.len()];
                let read = (source.clone(), Op::GetBlob { blob });
                let things = [(names[at].clone(), op), read];
                record(recorder, number, &things, || asker.mount(blob, source))
            } else {
                let things = [(names[at].clone(), op)];
                record(recorder, number, &things, || asker.ask(op, &mut random))
            };
            if answer.is_none() {
                return;
            }
        }
    });
}

/// One history; with `kills` the server is killed and started again in its middle.
fn history(server: &mut Server, number: usize, requests: usize, kills: bool) {
    let path = server.folder().join(format!("history-{number}.jsonl"));
    let (recorder, contents) = (Recorder::create(&path), Contents::new());
    let names: Vec<_> = (0..REPOSITORIES).map(|it| format!("h{number}/r{it}")).collect();
    let each = requests / CLIENTS;
    if kills {
        let moment = Duration::from_millis(20 + u64::from(random_bytes(1)[0]) * 2);
        std::thread::scope(|scope| {
            let (server, contents, names, recorder) = (&*server, &contents, &names, &recorder);
            scope.spawn(move || ask_around(server, recorder, contents, names, usize::MAX));
            std::thread::sleep(moment);
            server.begin_kill();
        });
        let _ = server.wait();
        server.start_again();
    }
    ask_around(server, &recorder, &contents, &names, each);
    let records: Vec<Record<Op, Answer>> = recorder.read();
    if let Err(error) = check_all(&Repository, &records) {
        let kept = keep(&path, number);
        panic!("not linearizable (history in {kept}): {error}");
    }
}

/// Copies a history out of the server's folder, which goes with the test.
fn keep(path: &Path, number: usize) -> String {
    let kept = std::env::temp_dir().join(format!("kelson-{}-{number}.jsonl", std::process::id()));
    std::fs::copy(path, &kept).unwrap();
    kept.display().to_string()
}

/// `KELSON_RACES_HISTORIES` histories of `KELSON_RACES_REQUESTS` requests; every fifth is cut by
/// a kill.
#[test]
fn repositories_are_linearizable() {
    let number = |name, default| std::env::var(name).map_or(default, |it| it.parse().unwrap());
    let histories = number("KELSON_RACES_HISTORIES", 2);
    let requests = number("KELSON_RACES_REQUESTS", 1000);
    let mut server = Server::start();
    for history_number in 0..histories {
        history(&mut server, history_number, requests, history_number % 5 == 1);
    }
    result("R-1", &format!("histories={histories} requests={requests} clients={CLIENTS}"));
}

/// The bytes of every session: what stands where does not depend on who sent it.
fn session_bytes(start: u64, length: u64) -> Vec<u8> {
    (start..start + length).map(|at| (at % 251) as u8).collect()
}

fn ask_session(client: &Client, location: &str, op: session::Op) -> Option<session::Answer> {
    use session::{Answer, Op};
    let answer = match op {
        Op::Append { start } => {
            let range = format!("{start}-{}", start + CHUNK - 1);
            let request = client.request("PATCH", location).header("Content-Range", &range);
            let request = request.header("Content-Type", OCTETS);
            request.body(&session_bytes(start, CHUNK)).send_or_cut()?
        }
        Op::Status => client.request("GET", location).send_or_cut()?,
        Op::Cancel => client.request("DELETE", location).send_or_cut()?,
        Op::Finish { length } => {
            let digest = sha256(&session_bytes(0, length)).replace(':', "%3A");
            client.request("PUT", &format!("{location}?digest={digest}")).send_or_cut()?
        }
    };
    Some(match (op, answer.status) {
        (Op::Append { .. }, 202) | (Op::Status, 204) => Answer::Offset(answer.offset()),
        (Op::Cancel, 204) | (Op::Finish { .. }, 201) => Answer::Done,
        (Op::Append { .. }, 416) => Answer::OutOfOrder,
        (_, 409) => Answer::Superseded,
        (_, 404) => Answer::Unknown,
        _ => {
            let _ = answer.expect_error(400, "DIGEST_INVALID");
            Answer::Mismatch
        }
    })
}

#[test]
fn upload_sessions_are_linearizable() {
    let server = Server::start();
    let client = server.client();
    let recorder = Recorder::create(&server.folder().join("sessions.jsonl"));
    let sessions = scaled(10);
    for _ in 0..sessions {
        let location = client.begin_upload("app");
        at_once(8, |number| {
            let client = server.client();
            let mut random = Random(u64::from_ne_bytes(random_bytes(8).try_into().unwrap()));
            let mut offset = 0;
            for _ in 0..12 {
                let op = session::Op::random(&mut random, offset);
                let things = [(location.clone(), op)];
                let ask = || ask_session(&client, &location, op);
                match record(&recorder, number, &things, ask).expect("an answer") {
                    session::Answer::Offset(now) => offset = now,
                    session::Answer::Unknown => return,
                    _ => {}
                }
            }
        });
    }
    let records: Vec<Record<session::Op, session::Answer>> = recorder.read();
    check_all(&Session, &records).unwrap();
    result("R-1-sessions", &format!("sessions={sessions} requests={}", records.len()));
}
