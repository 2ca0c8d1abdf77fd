//! Tells the matrix which compiler built it, for the `rustc` column.
use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if let Ok(output) = Command::new(rustc).arg("--version").output()
        && let Ok(text) = String::from_utf8(output.stdout)
        && let Some(version) = text.trim().strip_prefix("rustc ")
    {
        println!("cargo::rustc-env=NETWEIGHT_RUSTC={version}");
    }
}
