//! A few seconds of what `kelson-sim` does for minutes.

use std::time::Duration;

use clap::Parser;

use super::call::Call;
use super::cli::Arguments;
use super::engine::Engine;
use super::executor::block_on;
use super::explain::{command, explain, older};
use super::explore::{Budget, Cut, Failure, Tally, disk_after, explore, try_case};
use super::model::Outcome;
use super::plan::Mode;
use super::run::{Base, Case, Run, run};
use super::shrink::shrink;
use super::verify::{Known, heal, recover};
use crate::disk::durable::Step;
use crate::disk::durable::mutant::without;
use crate::disk::sim::{Recording, SimVfs, Variant};
use crate::meta::{MetaStore, ScrubRecord};

fn explored(mode: Mode, images: u64, left_out: Option<Step>) -> Option<Failure> {
    let base = if mode == Mode::FirstStart { Base::empty() } else { Base::new() };
    let budget = Budget { images, time: Duration::from_secs(20), threads: 1 };
    explore(&base, mode, 7, budget, left_out, &Tally::default(), &|| {})
}

#[test]
fn no_image_of_any_mode_breaks_a_promise() {
    for mode in Mode::ALL {
        if let Some(failure) = explored(mode, 200, None) {
            panic!("{:?}\n{}", failure.violations, command(&failure, None));
        }
    }
}

/// A second step of the schema once made the first start one that could not be repeated.
#[test]
fn a_first_start_that_is_killed_anywhere_is_a_first_start_again() {
    let base = Base::empty();
    let vfs = SimVfs::new(base.disk.clone());
    Engine::open(&vfs, 1).unwrap();
    let Recording { begin: mut disk, log } = vfs.recording();
    for (at, op) in log.iter().enumerate() {
        let image = disk.crash(Variant::Everything, 0).disk;
        let opened = recover(&base, image, &mut Known::default());
        assert!(opened.is_ok(), "D-7, before operation {at}: {opened:?}");
        disk.apply(op);
    }
}

/// The append came between the question where the upload stands and the bytes of the finish: so
/// their digest was wrong, and the simulator once called the end of that upload a loss.
#[test]
fn a_finish_that_an_append_spoils_ends_the_upload() {
    let base = Base::new();
    let text = "finish/spill/append/push.0.1/push.1.3,put.1.2.0,push.0.2";
    let case = Case::parse(186_199_320_330_037, text).unwrap();
    let mut run = run(&base, &case, None).unwrap();
    let finish = run.history.records.iter().position(|record| record.call == Call::Finish);
    let finish = finish.unwrap();
    assert!(matches!(run.history.records[finish].ended, Some((_, _, Outcome::Mismatched))));
    let cut = Cut { at: run.recording.log.len(), variant: Variant::Everything, sample: 0 };
    assert_eq!(explain(&base, Mode::Random, &run, &[cut]).1, Vec::<String>::new(), "I3");

    run.history.records.retain(|record| record.call != Call::Append);
    let (_, violations) = explain(&base, Mode::Random, &run, &[cut]);
    assert!(violations.iter().any(|it| it.contains("the upload is Absent")), "{violations:?}");
}

/// A rotten blob is served until a scrub has seen it, and heals with the next push. One that is
/// served after that is noticed, and so is one that is gone and had not rotted.
#[test]
fn a_scrub_ends_what_rot_began() {
    let base = Base::new();
    let run = |text: &str| run(&base, &Case::parse(7, text).unwrap(), None).unwrap();
    let violations = |run: &Run| {
        let cut = Cut { at: run.recording.log.len(), variant: Variant::Everything, sample: 0 };
        explain(&base, Mode::Random, run, &[cut]).1
    };
    let mut rotten = run("push.0.6,rot");
    assert_eq!(violations(&rotten), Vec::<String>::new(), "it is allowed, and can be healed");
    let mut scrub = rotten.history.records[1].clone();
    let (at, moment, outcome) = scrub.ended.unwrap();
    (scrub.call, scrub.began) = (Call::Scrub, (at, moment + 1));
    scrub.ended = Some((at, moment + 2, outcome));
    rotten.history.records.push(scrub);
    let found = violations(&rotten);
    assert!(found.iter().any(|violation| violation.contains("rotten")), "{found:?}");

    let mut scrubbed = run("push.0.6,rot,scrub");
    assert_eq!(violations(&scrubbed), Vec::<String>::new(), "contained");
    scrubbed.history.records.retain(|record| record.call != Call::Rot);
    let found = violations(&scrubbed);
    assert!(found.iter().any(|violation| violation.contains("Blob(0, 6)")), "{found:?}");
}

/// A referrer without a tag goes with its subject, once nobody has a lease on it. The simulator
/// once called that a loss. It is one while the subject is there.
#[test]
fn the_referrer_of_a_deleted_subject_may_be_collected() {
    let base = Base::new();
    let case = Case::parse(7, "put.0.5.0,untag.0.0,delete.0.0,collect").unwrap();
    let mut run = run(&base, &case, None).unwrap();
    let cut = Cut { at: run.recording.log.len(), variant: Variant::Everything, sample: 0 };
    assert_eq!(explain(&base, Mode::Random, &run, &[cut]).1, Vec::<String>::new(), "I3");

    run.history.records.retain(|record| record.call != Call::Delete(0, 0));
    let (_, violations) = explain(&base, Mode::Random, &run, &[cut]);
    let noticed = |it: &String| it.contains("Manifest(0, 5) is Absent");
    assert!(violations.iter().any(noticed), "{violations:?}");
}

/// What the scrub found right was taken for durable: its row vouched for it, pushes relied on that,
/// and a power cut took it all away.
#[test]
fn a_file_that_a_scrub_gives_back_is_durable() {
    let base = Base::new();
    for (seed, text) in [
        (1, "push.0.6,rot,scrub,plant.6,scrub,push.1.6"),
        (12, "push.0.6,rot,scrub,restart,push.1.6,scrub,push.0.6/scrub,scrub,beat,beat,restart"),
    ] {
        let case = Case::parse(seed, text).unwrap();
        let run = run(&base, &case, None).unwrap();
        let last = run.recording.log.len();
        // The last scrub and what follows it.
        for at in last - 25..=last {
            for variant in Variant::ALL {
                let cut = Cut { at, variant, sample: 1 };
                let (_, violations) = explain(&base, Mode::Random, &run, &[cut]);
                assert_eq!(violations, Vec::<String>::new(), "{text} {cut:?}");
            }
        }
    }
}

/// A scrub goes on with the pass of an earlier process, and may not look at what has rotted since:
/// the simulator once took its end for that of a whole pass.
#[test]
fn a_scrub_looks_at_everything_whatever_an_earlier_one_has_left() {
    let base = Base::new();
    let engine = Engine::open(&SimVfs::new(base.disk.clone()), 1).unwrap();
    let make = |call: Call| block_on(call.make(&engine, &base.world())).0;
    assert_eq!(make(Call::Push(0, 6)), Outcome::Done);
    let meta = &engine.store.meta;
    let under_way = ScrubRecord { shard: Some(255), ..block_on(meta.scrub()).unwrap() };
    block_on(meta.save_scrub(under_way)).unwrap();
    assert_eq!(make(Call::Rot), Outcome::Done);
    assert_eq!(heal(&base, &engine, &mut Known::default()), Ok(()));
}

/// What the collector had chosen could not be read once nothing could be written.
#[test]
fn reads_go_on_while_the_collector_cannot() {
    let base = Base::new();
    for (mode, kind) in [(Mode::Enospc, 1), (Mode::FailedSync, 0)] {
        let case = Case::parse(278_962_117_894_473, "collect").unwrap();
        let fires = |nth: &usize| {
            let tried = try_case(&base, mode, &case, Some((kind, *nth)), &Tally::default());
            tried.unwrap_or_else(|failure| panic!("{mode:?} {nth}: {:?}", failure.violations))
        };
        assert!((1..).take_while(fires).count() > 2, "{mode:?}");
    }
}

#[test]
fn a_commit_without_its_sync_is_noticed() {
    let failure = explored(Mode::Short, 2000, Some(Step::DatabaseData)).unwrap();
    assert!(failure.violations.iter().any(|violation| violation.contains("I3")), "{failure:?}");
}

fn parsed(command: &str) -> Arguments {
    Arguments::try_parse_from(command.split(' ').map(|word| word.trim_matches('\''))).unwrap()
}

/// What `kelson-sim` says to a command line, and whether nothing was wrong.
fn said(command: &str) -> (bool, String) {
    let mut out = Vec::new();
    let right = parsed(command).run(&mut out).unwrap();
    (right, String::from_utf8(out).unwrap())
}

/// What is printed for people shows the failure again, and only because of the mutant.
#[track_caller]
fn assert_replayed(failure: &Failure, step: Step) {
    let (right, text) = said(&command(failure, Some(step)));
    assert!(!right && text.contains("VIOLATION"), "{failure:?}\n{text}");
    // With that sync the disk has other operations: all of them are cut.
    let whole = Failure { cuts: Vec::new(), ..failure.clone() };
    let (right, text) = said(&command(&whole, None));
    assert!(right && !text.contains("VIOLATION"), "{failure:?}\n{text}");
}

#[test]
fn a_failure_of_any_mode_is_shown_again_by_its_command() {
    for (mode, step) in [
        (Mode::FirstStart, Step::Root),
        (Mode::Short, Step::DatabaseData),
        (Mode::Random, Step::KeptData),
        (Mode::Recovery, Step::DatabaseData),
        (Mode::Enospc, Step::DatabaseData),
        (Mode::Faults, Step::DatabaseData),
        (Mode::Upgrade, Step::DatabaseCopyData),
    ] {
        let failure = explored(mode, 4000, Some(step));
        assert_replayed(&failure.unwrap_or_else(|| panic!("{mode:?} {step:?}")), step);
    }
}

/// No mutant breaks this alone: the transaction that a recovery lacks is told instead.
#[test]
fn a_replay_compares_a_recovery_with_the_one_before() {
    let base = Base::new();
    let run = run(&base, &Case::parse(7, "push.0.2").unwrap(), None).unwrap();
    let cut = |at| Cut { at, variant: Variant::Everything, sample: 0 };
    let cuts = [cut(run.recording.log.len()), cut(1)];
    let disk = disk_after(&base, &run, &cuts).unwrap().disk();
    let mut found = recover(&base, disk, &mut Known::default()).unwrap().1;
    assert_eq!(older(&base, &run, &cuts, &found), None);
    found.transactions -= 1;
    assert!(older(&base, &run, &cuts, &found).unwrap().starts_with("D-6"));
    assert_eq!(older(&base, &run, &cuts[..1], &found), None, "there is none before");
}

#[test]
fn a_shrunk_failure_is_smaller_and_still_one() {
    let (base, step) = (Base::new(), Step::DatabaseData);
    let calls = |case: &Case| case.clients.iter().map(Vec::len).sum::<usize>();
    for (mode, fault) in [(Mode::Random, None), (Mode::FailedSync, Some((0, 30)))] {
        let case = Case::parse(7, "push.0.2,push.0.3,beat/put.0.1.0,push.1.4/append").unwrap();
        let tried = without(Some(step), || try_case(&base, mode, &case, fault, &Tally::default()));
        let shrunk = shrink(&base, tried.unwrap_err(), Some(step));
        assert!(!shrunk.violations.is_empty(), "{shrunk:?}");
        assert_eq!(calls(&shrunk.case), 1, "one call is enough: {shrunk:?}");
        assert_replayed(&shrunk, step);
    }
}

/// The base state was once called a violation of a store that had not opened yet.
#[test]
fn a_cut_that_no_mode_makes_is_refused() {
    let command = "kelson-sim --mode short --seed 7 --case push.0.2 --cut";
    for at in [17, 100_000] {
        let error = parsed(&format!("{command} {at}")).run(&mut Vec::new()).unwrap_err();
        assert!(error.starts_with("this case is cut at 2"), "{error}");
    }
}

#[test]
fn a_plan_that_was_cut_short_is_not_called_complete() {
    let (right, text) = said("kelson-sim --mode upgrade,first-start --images 1 --threads 1");
    assert!(right && text.contains(", 0 of 1 cases\nFirstStart: "), "{text}");
    assert!(text.contains(", 0 of 7 cases\n"), "{text}");
    let (right, text) = said("kelson-sim --mode upgrade --threads 1");
    assert!(right && text.contains(", complete\n"), "{text}");
    let (right, text) = said("kelson-sim --mode random --images 1 --threads 1");
    assert!(right && text.contains(" a second\n"), "no end, no plan: {text}");
}

#[test]
fn a_case_is_its_seed_and_its_text() {
    for seed in 0..50 {
        let case = Case::random(seed, 3, 4);
        assert_eq!(Case::parse(seed, &case.to_string()), Some(case));
    }
    assert_eq!(Case::parse(1, "push.0.9"), None);
}
