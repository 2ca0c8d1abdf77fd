//! Exists because cargo wants a build script beside `links`; see the note in `Cargo.toml`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
