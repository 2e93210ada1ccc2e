//! Sees contents leave the disk.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// The contents whose directories were removed since it began.
#[derive(Debug)]
pub struct Deletions {
    seen: Arc<Seen>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When each went last, until it is asked for.
    last: Mutex<(usize, HashMap<String, Instant>)>,
    stop: AtomicBool,
}

impl Deletions {
    /// Watches below `blobs/sha256` of a store, whose directories it makes where they are missing.
    pub fn watch(folder: &Path) -> Self {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        for short in 0..=255 {
            let directory = folder.join(format!("{short:02x}"));
            std::fs::create_dir_all(&directory).unwrap();
            let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
            inotify::add_watch(&descriptor, &directory, flags).unwrap();
        }
        let seen = Arc::new(Seen::default());
        let of_reader = Arc::clone(&seen);
        let reader = std::thread::spawn(move || of_reader.read(&descriptor));
        Self { seen, reader: Some(reader) }
    }

    /// How many contents have gone.
    pub fn count(&self) -> usize {
        self.seen.last.lock().unwrap().0
    }

    /// Whether the content went at most so long before `then`; true once for each time it goes.
    pub fn was_within(&self, digest: &str, then: Instant, limit: Duration) -> bool {
        let hex = digest.split_once(':').unwrap().1;
        let gone = self.seen.last.lock().unwrap().1.remove(hex);
        gone.is_some_and(|gone| then.saturating_duration_since(gone) <= limit)
    }
}

impl Drop for Deletions {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let ended = reader.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the watch broke off");
        }
    }
}

impl Seen {
    fn read(&self, descriptor: &OwnedFd) {
        let mut buffer = vec![MaybeUninit::uninit(); 1 << 16];
        let mut events = inotify::Reader::new(descriptor, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "events lost");
                    let Some(name) = event.file_name().filter(|name| name.count_bytes() == 64)
                    else {
                        continue;
                    };
                    let name = name.to_str().unwrap().to_owned();
                    let mut last = self.last.lock().unwrap();
                    last.0 += 1;
                    last.1.insert(name, Instant::now());
                }
                Err(Errno::AGAIN) if self.stop.load(Ordering::Relaxed) => return,
                Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
