//! Races: what concurrent clients may see, by the ids of the test plan.
//!
//! Here they run small: `KELSON_RACES_SCALE` multiplies the rounds, and 1000 is the whole plan.
//! `.ci/races` sets it.

mod clock;
mod collect;
mod contention;
mod deletes;
mod history;
mod linear;
mod linearizable;
mod repository;
mod seeded;
mod session;
mod shuffled;
mod watch;

/// `rounds`, as many times as `KELSON_RACES_SCALE` says.
pub fn scaled(rounds: usize) -> usize {
    let factor = std::env::var("KELSON_RACES_SCALE").map_or(1.0, |text| text.parse().unwrap());
    (rounds as f64 * factor).ceil() as usize
}

/// Prints figures for the suite that runs this test.
pub fn result(name: &str, figures: &str) {
    println!("RESULT {name} {figures}");
}
