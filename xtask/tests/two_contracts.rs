//! Two versions of the contract in one program would be two registries that do not see each other.
//! Cargo refuses to resolve such a program.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_program_cannot_link_two_versions_of_the_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "later/Cargo.toml",
        "[package]\nname = \"netweight-codec-api\"\nversion = \"0.2.0\"\nedition = \"2024\"\nlinks = \"netweight_codec_registry\"\n",
    );
    write("later/build.rs", "fn main() {}\n");
    write("later/src/lib.rs", "");
    let here = root.join("codec-api").display().to_string();
    let program = |dependencies: &str| {
        write(
            "program/Cargo.toml",
            &format!(
                "[package]\nname = \"program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{dependencies}"
            ),
        );
    };
    write("program/src/main.rs", "fn main() {}\n");
    // The tree's lock file has every version that the contract needs, so nothing is looked up.
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap();
    // Resolves, and downloads nothing.
    let resolve = || {
        write("program/Cargo.lock", &lock);
        let manifest = directory.path().join("program/Cargo.toml");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["update", "--workspace", "--offline", "--manifest-path"]).arg(manifest).output().unwrap()
    };

    let ours = format!("ours = {{ package = \"netweight-codec-api\", path = {here:?} }}\n");
    program(&ours);
    let alone = resolve();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));

    program(&format!("{ours}later = {{ package = \"netweight-codec-api\", path = \"../later\" }}\n"));
    let both = resolve();
    let message = String::from_utf8_lossy(&both.stderr);
    assert!(!both.status.success(), "cargo accepted both");
    assert!(message.contains("netweight_codec_registry"), "{message}");
}
