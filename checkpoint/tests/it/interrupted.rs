//! Runs that were interrupted, and sources and targets that do not fit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use checkpoint::{Error, Model, Packed, Plan, Ran, Recipe, diff};
use codec_api::{Cancel, NoProgress, Progress};

use crate::support::packed::{noise, pack, registry};
use crate::support::{Dir, Raw, assert_says, model, pair};

/// A model of three units.
fn source(dir: &Dir) -> PathBuf {
    let tensor = |name, first: u8| {
        let mut bytes = noise(1025 * 1024);
        bytes[0] = first;
        (name, "U8", &[1025, 1024][..], bytes)
    };
    let tensors: Vec<Raw<'_>> = vec![tensor("a", 1), tensor("b", 2), tensor("c", 3)];
    dir.write("model.safetensors", model(&tensors))
}

fn plan(source: &Path, target: &Path) -> Plan {
    Plan::new(source, target, &Recipe::default(), 0, &registry()).unwrap()
}

/// Work that is cancelled before it begins.
#[derive(Debug, Default)]
struct Cancelled(Cancel);

impl Progress for Cancelled {
    fn tick(&self, _: u64) {}

    fn cancel(&self) -> &Cancel {
        self.0.cancel();
        &self.0
    }
}

#[test]
fn cancelled_work_leaves_no_target_and_goes_on() {
    let (dir, registry, cancelled) = (Dir::new(), registry(), Cancelled::default());
    let (source, target) = (source(&dir), dir.path().join("m.nw.safetensors"));
    let plan = plan(&source, &target);
    assert_eq!(plan.run_unit(0, &registry, &NoProgress).unwrap(), Ran::Encoded);
    assert_says(&plan.run(&registry, &cancelled).unwrap_err(), &["cancelled"]);
    assert_eq!(plan.missing_units().unwrap(), [1, 2]);
    plan.run(&registry, &NoProgress).unwrap();
    assert_says(&plan.commit(&registry, Some(&cancelled)).unwrap_err(), &["cancelled"]);
    assert!(!target.exists());
    plan.commit(&registry, Some(&NoProgress)).unwrap();

    let packed = Packed::open(&target, &registry).unwrap();
    let faults = packed.verify(&cancelled);
    assert!(faults.len() >= 3 && faults.iter().all(|fault| matches!(fault, Error::Cancelled)), "{faults:?}");
    let dense = dir.path().join("dense.safetensors");
    assert_says(&packed.unpack_single(&dense, &cancelled).unwrap_err(), &["cancelled"]);
    assert!(!dense.exists());
    let [first, second] = [&source, &target].map(|path| Model::open(path, &[], &registry).unwrap());
    assert_says(&diff(&first, &second, &cancelled).unwrap_err(), &["cancelled"]);
}

#[test]
fn a_rerun_keeps_whole_parts_and_gives_the_same_bytes() {
    let dir = Dir::new();
    let source = source(&dir);
    let expected = fs::read(pack(&source, &dir.path().join("once.nw.safetensors"), &Recipe::default())).unwrap();
    let target = dir.path().join("m.nw.safetensors");
    let first = plan(&source, &target);
    first.run(&registry(), &NoProgress).unwrap();
    let part = |unit: usize| first.parts().join(format!("unit-{unit:05}.safetensors"));
    let mut damaged = fs::read(part(1)).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(part(1), damaged).unwrap();
    for verify in [None, Some(&NoProgress as &dyn Progress)] {
        let error = plan(&source, &target).commit(&registry(), verify).unwrap_err();
        assert_says(&error, &["the part of unit 1 is damaged; run the unit again"]);
    }
    // What a killed run leaves: a missing part, and a half-written temporary file.
    fs::remove_file(part(0)).unwrap();
    fs::write(first.parts().join(".unit-00000.safetensors.x.tmp"), b"half").unwrap();
    let kept = part(2);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::options().write(true).open(&kept).unwrap().set_modified(long_ago).unwrap();

    let error = plan(&source, &target).commit(&registry(), Some(&NoProgress)).unwrap_err();
    assert_says(&error, &["units have not run: 0", "m.nw.safetensors.parts"]);
    assert!(!target.exists());
    let again = plan(&source, &target);
    again.run(&registry(), &NoProgress).unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), long_ago, "a whole part is kept");
    again.commit(&registry(), Some(&NoProgress)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), expected);
    assert!(!again.parts().exists());
    // A second commit finds the target, and not that of another plan.
    again.commit(&registry(), Some(&NoProgress)).unwrap();
    assert!(again.is_committed(&registry()) && !again.parts().exists());
    let other = Plan::new(&source, &target, &Recipe::default(), 1, &registry()).unwrap();
    assert!(!other.is_committed(&registry()));
    assert_says(&other.commit(&registry(), None).unwrap_err(), &["units have not run: 0, 1, 2"]);
    assert_eq!(fs::read(&target).unwrap(), expected);
}

#[cfg(unix)]
#[test]
fn two_commits_do_not_run_at_once() {
    let dir = Dir::new();
    let source = dir.write("model.safetensors", model(&[pair("a", [1.0, 2.0])]));
    let plan = plan(&source, &dir.path().join("m.nw.safetensors"));
    plan.run(&registry(), &NoProgress).unwrap();
    let other = File::open(plan.parts()).unwrap();
    other.lock().unwrap();
    assert_says(&plan.commit(&registry(), None).unwrap_err(), &["another commit of it is running"]);
    drop(other);
    plan.commit(&registry(), None).unwrap();
}

#[test]
fn a_unit_that_ran_is_kept_and_a_missing_one_is_named() {
    let dir = Dir::new();
    let file = dir.path().join("plan.json");
    plan(&source(&dir), &dir.path().join("m.nw.safetensors")).save(&file).unwrap();
    let load = || Plan::load(&file).unwrap();
    let run = |unit| load().run_unit(unit, &registry(), &NoProgress);
    assert_eq!([run(0).unwrap(), run(2).unwrap(), run(0).unwrap()], [Ran::Encoded, Ran::Encoded, Ran::Kept]);
    assert_eq!(load().missing_units().unwrap(), [1]);
    assert_says(&load().commit(&registry(), None).unwrap_err(), &["plan.json", "units have not run: 1;"]);
    assert_says(&run(3).unwrap_err(), &["3 units, counted from 0, so no unit 3"]);
    let text = fs::read_to_string(&file).unwrap().replace("\"netweight 0", "\"netweight 7");
    fs::write(&file, text).unwrap();
    assert_says(&Plan::load(&file).unwrap_err(), &["plan.json", "`netweight 7.1.0` made it, and this is `netweight 0"]);
}

#[test]
fn a_damaged_part_is_not_committed() {
    let dir = Dir::new();
    let target = dir.path().join("m.nw.safetensors");
    let plan = plan(&source(&dir), &target);
    plan.run(&registry(), &NoProgress).unwrap();
    let part = plan.parts().join("unit-00001.safetensors");
    let mut bytes = fs::read(&part).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&part, bytes).unwrap();
    let error = plan.commit(&registry(), Some(&NoProgress)).unwrap_err();
    assert_says(&error, &["the part of unit 1 is damaged", "run the unit again"]);
    assert!(!target.exists());
    let left = fs::read_dir(plan.parts()).unwrap().count();
    assert_eq!(left, plan.units(), "no temporary file is left");
}

#[test]
fn parts_of_another_plan_are_not_used() {
    let dir = Dir::new();
    let (source, target) = (source(&dir), dir.path().join("m.nw.safetensors"));
    plan(&source, &target).run(&registry(), &NoProgress).unwrap();
    let other = Plan::new(&source, &target, &Recipe::default(), 1, &registry()).unwrap();
    assert_says(&other.commit(&registry(), Some(&NoProgress)).unwrap_err(), &["units have not run: 0, 1, 2"]);
}

#[test]
fn a_changed_source_is_refused() {
    let dir = Dir::new();
    let source = dir.write("model.safetensors", model(&[pair("a", [1.0, 2.0])]));
    let target = dir.path().join("m.nw.safetensors");
    let made = plan(&source, &target);
    let other_time = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    let modified = fs::metadata(&source).unwrap().modified().unwrap();
    let run = || made.run(&registry(), &NoProgress).unwrap_err();
    let set_time = |time| File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();

    set_time(other_time);
    assert_says(&run(), &["model.safetensors", "time of the last change", "make the plan again"]);
    dir.write("model.safetensors", model(&[pair("b", [1.0, 2.0])]));
    set_time(modified);
    assert_says(&run(), &["header is another one"]);
    dir.write("model.safetensors", model(&[pair("a", [1.0, 2.0]), pair("b", [1.0, 2.0])]));
    assert_says(&run(), &["length is"]);
    fs::remove_file(&source).unwrap();
    assert!(matches!(run(), Error::NotFound { .. }));
    assert!(!target.exists() && !made.parts().exists());
}

#[test]
fn the_source_is_never_the_target() {
    let dir = Dir::new();
    let source = dir.write("model.nw.safetensors", model(&[pair("a", [1.0, 2.0])]));
    let refused =
        |source: &Path, target: &Path| Plan::new(source, target, &Recipe::default(), 0, &registry()).unwrap_err();
    assert_says(&refused(&source, &dir.path().join("./model.nw.safetensors")), &["a file of the source"]);
    let dense = dir.path().join("x.safetensors");
    assert_says(&refused(&source, &dense), &["x.safetensors", "x.nw.safetensors"]);

    let target = pack(&source, &dir.path().join("p.nw.safetensors"), &Recipe::default());
    assert_says(&refused(&target, &dir.path().join("q.nw.safetensors")), &["packed already"]);
    let packed = Packed::open(&target, &registry()).unwrap();
    assert_says(&packed.unpack_single(&target, &NoProgress).unwrap_err(), &["the packed file itself"]);
}

#[test]
fn a_name_in_two_shards_is_refused() {
    let dir = Dir::new();
    dir.write("1.safetensors", model(&[pair("a", [1.0, 2.0]), pair("b", [1.0, 2.0])]));
    dir.write("2.safetensors", model(&[pair("b", [3.0, 4.0])]));
    dir.write_index(&[("a", "1.safetensors"), ("b", "2.safetensors")]);
    let error = Plan::new(dir.path(), dir.path().join("p.nw.safetensors"), &Recipe::default(), 0, &registry());
    assert_says(&error.unwrap_err(), &["2.safetensors", "tensor `b`", "1.safetensors", "one by one"]);
}

#[test]
fn plans_from_files_are_checked() {
    let dir = Dir::new();
    let saved = dir.path().join("plan.json");
    plan(&source(&dir), &dir.path().join("m.nw.safetensors")).save(&saved).unwrap();
    let text = fs::read_to_string(&saved).unwrap();
    let edits: [(&str, &str, &str); 8] = [
        (r#""units":[[[0,0]"#, r#""units":[[[0,1]"#, "instead of [0, 0]"),
        (r#""chunk_rows":1025"#, r#""chunk_rows":0"#, "tensor `a`"),
        (r#""chunk_rows":1025"#, r#""chunk_rows":1"#, "instead of"),
        (r#""file":0"#, r#""file":7"#, "do not exist"),
        (r#""kind":"packing plan""#, r#""kind":"x""#, "unknown variant"),
        (r#""name":"model.safetensors""#, r#""name":"../x""#, "plain path"),
        ("m.nw.safetensors", "m.safetensors", "its target"),
        (r#""shape":[1025,1024]"#, r#""shape":[18446744073709551615,9]"#, "more than"),
    ];
    for (from, to, reason) in edits {
        assert!(text.contains(from), "{from} in {text}");
        fs::write(&saved, text.replacen(from, to, 1)).unwrap();
        assert_says(&Plan::load(&saved).unwrap_err(), &["plan.json", reason]);
    }
    fs::write(&saved, &text).unwrap();
    let error = Plan::load(&saved).unwrap().run_unit(99, &registry(), &NoProgress).unwrap_err();
    assert_says(&error, &["no unit 99"]);
}
