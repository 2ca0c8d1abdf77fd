//! The commands in the README's transcript, with their exact output.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use regex::Regex;
use tempfile::TempDir;

/// Runs the command lines of the README's first transcript in a folder with the model, and compares
/// everything that they print, except times and speeds.
#[test]
fn the_transcript_is_what_the_program_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (text, place) = (fs::read_to_string(root.join("README.md")).unwrap(), TempDir::new().unwrap());
    let model = place.path().join("assets/stories260k");
    fs::create_dir_all(&model).unwrap();
    for file in fs::read_dir(root.join("assets/stories260k")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let transcript = text.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut commands = 0;
    for part in transcript.split("$ netweight ").skip(1) {
        let (command, expected) = part.split_once('\n').unwrap();
        let program =
            Command::new(env!("CARGO_BIN_EXE_netweight")).args(command.split(' ')).current_dir(&place).output();
        let Output { status, stdout, stderr } = program.unwrap();
        let found = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(status.success(), "{command}: {found}");
        assert_eq!(without_times(&found), without_times(expected), "{command}");
        commands += 1;
    }
    assert_eq!(commands, 3);
}

fn without_times(text: &str) -> String {
    Regex::new(r"it took [0-9.]+ s, [0-9]+ MB/s").unwrap().replace_all(text, "it took a time").into_owned()
}
