//! Black-box tests: the real program on a real port with a real store.
//!
//! One binary, one file per noun. `KELSON_IT_PROGRAM` names another registry that understands
//! distribution's configuration, to run the same tests against it.

#[cfg(test)]
mod support;

#[cfg(test)]
mod backup;
#[cfg(test)]
mod blobs;
#[cfg(test)]
mod catalog;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod conditional;
#[cfg(test)]
mod config;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod database_damage;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod fsck;
#[cfg(test)]
mod gc;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mounts;
#[cfg(test)]
mod races;
#[cfg(test)]
mod ranges;
#[cfg(test)]
mod referrers;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod space;
#[cfg(test)]
mod tags;
#[cfg(test)]
mod uploads;

/// A file that no `mod` line names would never run.
#[test]
fn every_file_is_a_module() {
    let main = include_str!("main.rs");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(stem == "main" || main.contains(&format!("mod {stem};")), "{stem} is not named");
    }
}
