//! Does nothing. Cargo requires a build script for a package with `links`; see the note in
//! `Cargo.toml`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
