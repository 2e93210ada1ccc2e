//! Kill at random moments under load: what was acknowledged is there afterwards (P1).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::server::command;
use crate::support::{Client, Image, Options, Request, Server, eventually, random_bytes, sha256};

const PUSHERS: usize = 8;
/// Acknowledged pushes before each kill, at least.
const PUSHES_MIN: usize = 20;

/// `repository:tag` and the image that was acknowledged there.
type Acknowledged = BTreeMap<(String, String), Image>;

/// Pushes an image; `None` as soon as the server does not answer.
fn push(client: &Client, repo: &str, tag: &str, image: &Image) -> Option<()> {
    let send = |request: Request<'_>| request.try_send().ok();
    for blob in image.blobs() {
        let begun = send(client.request("POST", &format!("/v2/{repo}/blobs/uploads/")))?;
        let location = begun.expect(202).location();
        let url =
            crate::support::client::with_query(&location, &format!("digest={}", sha256(blob)));
        let _ = send(client.request("PUT", &url).body(blob))?.expect(201);
    }
    let put = client.request("PUT", &format!("/v2/{repo}/manifests/{tag}"));
    let put = put.header("Content-Type", image.media_type).body(&image.manifest);
    let _ = send(put)?.expect(201);
    Some(())
}

/// Pushes from all sides, kills at a random moment, and notes what was acknowledged.
fn push_until_killed(server: &mut Server, cycle: usize, acknowledged: &mut Acknowledged) {
    let (done, count) = (Mutex::new(Acknowledged::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for pusher in 0..PUSHERS {
            let (client, done, count) = (server.client(), &done, &count);
            scope.spawn(move || {
                for number in 0.. {
                    let layer = if number % 4 == 0 { 90_000 } else { 3000 };
                    let image = Image::random(&[layer]);
                    let repo = format!("kill/{}", pusher % 3);
                    let tag = format!("c{cycle}-p{pusher}-{number}");
                    if push(&client, &repo, &tag, &image).is_none() {
                        return;
                    }
                    done.lock().unwrap().insert((repo, tag), image);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("enough pushes are acknowledged", || {
            (count.load(Ordering::Relaxed) >= PUSHES_MIN).then_some(())
        });
        let moment = u64::from(random_bytes(1)[0]);
        std::thread::sleep(Duration::from_micros(moment * 200));
        server.kill();
    });
    acknowledged.append(&mut done.into_inner().unwrap());
}

/// `KELSON_IT_KILL_CYCLES` sets how often.
#[test]
fn acknowledged_pushes_survive_kills_under_load() {
    let cycles = std::env::var("KELSON_IT_KILL_CYCLES").map_or(3, |text| text.parse().unwrap());
    let mut server = Server::start();
    let mut acknowledged = Acknowledged::new();
    for cycle in 0..cycles {
        push_until_killed(&mut server, cycle, &mut acknowledged);
        server.start_again();
        let client = server.client();
        for ((repo, tag), image) in &acknowledged {
            image.assert_pullable(&client, repo, tag);
        }
    }
    // Tags that were not acknowledged may be there too, but then whole.
    let client = server.client();
    for repo in client.walk("/v2/_catalog", "repositories").concat() {
        for tag in client.tags(&repo) {
            let manifest = client.manifest(&repo, &tag).expect(200).json();
            for part in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
                let digest = part["digest"].as_str().unwrap();
                assert_eq!(sha256(&client.blob(&repo, digest).expect(200).body), digest);
            }
        }
    }
}

#[test]
fn a_kill_at_any_moment_of_the_first_start_leaves_a_store_that_starts() {
    for attempt in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let mut first = command(folder.path(), &Options::default()).arg("serve").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(attempt * 4));
        first.kill().unwrap();
        first.wait().unwrap();
        let server = Server::in_folder(Options::default(), folder);
        let repositories = server.client().walk("/v2/_catalog", "repositories").concat();
        assert_eq!(repositories, Vec::<String>::new());
    }
}
