//! Packing and unpacking that is killed, or that the system does not let write.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use crate::packing::{Place, assert_says, files, said};
use crate::program::netweight;

/// Six tensors of a million F32 weights: several units.
pub(crate) fn write_large_model(path: &Path) {
    const WEIGHTS: usize = 1 << 20;
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for tensor in 0..6usize {
        let begin = data.len();
        data.extend((0..WEIGHTS).flat_map(|i| (((i * (7919 + tensor)) % 10_007) as f32 / 3301.0 - 1.5).to_le_bytes()));
        let end = data.len();
        entries.push(format!(r#""t{tensor}":{{"dtype":"F32","shape":[1024,1024],"data_offsets":[{begin},{end}]}}"#));
    }
    let header = format!("{{{}}}", entries.join(","));
    fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()).unwrap();
}

/// The number of times that a run is killed. `NETWEIGHT_KILLS=60` is the long version.
fn kills() -> u32 {
    std::env::var("NETWEIGHT_KILLS").map_or(5, |number| number.parse().unwrap())
}

/// Kills the command at moments from its start to its end; `check` sees what each run has left.
fn killed(args: &[&str], check: impl Fn()) {
    let start = || netweight(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    assert!(start().wait().unwrap().success(), "{args:?}");
    let whole = begin.elapsed();
    check();
    for moment in 1..=kills() {
        let mut child = start();
        thread::sleep(whole * moment / kills());
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
        check();
    }
}

#[test]
fn a_killed_run_leaves_no_wrong_file_and_goes_on() {
    let place = Place::new();
    let (model, once, packed) = (place.text("model.safetensors"), place.text("1.nw.safetensors"), place.text("out"));
    write_large_model(Path::new(&model));
    said(&["compress", &model, "-o", &once, "--recipe", "int8"], 0);
    let once = fs::read(once).unwrap();
    let target = place.path("out/model.nw.safetensors");
    let args = ["compress", &model, "-o", &packed, "-j", "2", "--recipe", "int8"];
    killed(&args, || {
        if target.exists() {
            assert!(fs::read(&target).unwrap() == once, "another file");
            fs::remove_file(&target).unwrap();
        }
    });
    said(&args, 0);
    assert!(fs::read(&target).unwrap() == once, "another file after the rerun");
    assert_eq!(fs::read_dir(&packed).unwrap().count(), 1, "no parts and temporary files are left");
}

/// A commit over an older set with as many files, which have the same names and sections.
#[test]
fn a_killed_commit_of_a_set_leaves_no_mixture() {
    let place = Place::new();
    let [model, plan, old, once, out] =
        ["model.safetensors", "plan.json", "old", "once", "out"].map(|name| place.text(name));
    write_large_model(Path::new(&model));
    let options = ["--recipe", "int8", "--max-shard-size", "2MB", "-q"];
    said(&[&["compress", &model, "-o", &once], &options[..]].concat(), 0);
    said(&[&["compress", &model, "-o", &old, "--seed", "1"], &options[..]].concat(), 0);
    said(&["plan", &model, "-o", &out, "--plan", &plan, "--recipe", "int8", "--max-shard-size", "2MB"], 0);
    let [old, once] = [old, once].map(|folder| files(Path::new(&folder)));
    assert!(old.len() > 4 && old.iter().map(|file| &file.0).eq(once.iter().map(|file| &file.0)));
    let prepare = || {
        for (name, bytes) in &old {
            fs::write(place.path("out").join(name), bytes).unwrap();
        }
        said(&["run", &plan, "-q"], 0);
    };
    said(&["run", &plan, "-q"], 0);
    prepare();
    let registry = codec_api::Registry::linked().unwrap();
    killed(&["commit", &plan, "--no-verify"], || {
        if let Ok(packed) = checkpoint::Packed::open(&out, &registry) {
            let read = |path: &std::path::PathBuf| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
            };
            let mut found: Vec<_> = packed.paths().iter().map(read).collect();
            found.sort();
            assert!(found == old || found == once, "a mixture opens");
        }
        prepare();
    });
    said(&["commit", &plan], 0);
    assert!(files(Path::new(&out)) == once, "other files after the last commit");
}

#[test]
fn killed_unpacking_leaves_the_old_file_or_the_new_one() {
    let place = Place::new();
    let (model, packed) = (place.text("model.safetensors"), place.text("m.nw.safetensors"));
    write_large_model(Path::new(&model));
    said(&["compress", &model, "-o", &packed], 0);
    let (whole, target) = (fs::read(&model).unwrap(), place.path("dense.safetensors"));
    fs::write(&target, "old").unwrap();
    let dense = target.to_str().unwrap();
    killed(&["decompress", &packed, "-o", dense, "--force"], || {
        let found = fs::read(&target).unwrap();
        assert!(found == whole || found == b"old", "neither old nor new");
        fs::write(&target, "old").unwrap();
    });
}

/// Runs the program with files of at most so many blocks of 512 bytes.
#[cfg(unix)]
fn limited(blocks: u32, args: &[&str]) -> (Option<i32>, String) {
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -f {blocks} && exec \"$0\" \"$@\""));
    let output = shell.arg(env!("CARGO_BIN_EXE_netweight")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[cfg(unix)]
#[test]
fn a_full_disk_keeps_what_was_there() {
    let place = Place::new();
    let (model, packed) = (place.text("model.safetensors"), place.text("m.nw.safetensors"));
    write_large_model(Path::new(&model));
    said(&["compress", &model, "-o", &packed, "--recipe", "int8"], 0);
    let (source, older) = (fs::read(&model).unwrap(), fs::read(&packed).unwrap());
    let before: Vec<_> = files(&place.path("")).into_iter().map(|(name, _)| name).collect();
    let names = || files(&place.path("")).into_iter().map(|(name, _)| name).collect::<Vec<_>>();

    let (code, message) = limited(4000, &["decompress", &packed, "-o", &place.text("dense.safetensors")]);
    assert_eq!(code, Some(2), "{message}");
    assert_says(&message, &["cannot write `", "dense.safetensors", "File too large"]);
    assert_eq!(names(), before, "no temporary file is left");

    // Another recipe, so that no part of the first run fits.
    let args = ["compress", &model, "-o", &packed, "--force", "--recipe", "q4"];
    let (code, message) = limited(4000, &args);
    assert_eq!(code, Some(2), "{message}");
    assert_says(&message, &["cannot write `", "File too large", "finished parts are in"]);
    assert!(fs::read(&packed).unwrap() == older && fs::read(&model).unwrap() == source);
    let parts = files(&place.path("m.nw.safetensors.parts"));
    assert!(parts.iter().all(|(name, _)| name.starts_with("unit-")), "no temporary file is left");
    said(&args, 0);
    said(&["verify", &packed], 0);
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let place = Place::new();
    let (model, below) = (place.text("model.safetensors"), place.text("model.safetensors/m.nw.safetensors"));
    write_large_model(Path::new(&model));
    assert_says(&said(&["compress", &model, "-o", &below], 2), &["error: ", "model.safetensors/m.nw.safetensors"]);
}
