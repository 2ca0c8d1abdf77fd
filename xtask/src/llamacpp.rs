//! `cargo xtask llamacpp`: tokens per second beside llama.cpp, in the same run.

use std::env::consts::EXE_EXTENSION;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::tree::{self, Tree};

/// Compare the speed of GPT-2's architecture with llama.cpp's: both programs in turn
///
/// Prints a table: tokens per second one by one and of a prompt, for F32, 8 and 4 bits.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Options {
    /// Directory of a llama.cpp that is built: `libllama*.so`, `libggml*.so` and its CPU backends
    #[arg(long, value_name = "DIR")]
    lib: PathBuf,
    /// A Python with the packages llama-cpp-py-sync, cffi, gguf and numpy
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// Threads of either program
    #[arg(short = 'j', long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Times that each program runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Tokens after the prompt
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=127))]
    tokens: u64,
}

const HELP: &str = "\
A llama.cpp that is built, for Linux and glibc 2.34 or later:
  npm i -E @node-llama-cpp/linux-x64@3.21.1 --ignore-scripts
  python3 -m venv V && V/bin/pip install llama-cpp-py-sync cffi gguf numpy
  cargo xtask llamacpp --python V/bin/python \\
    --lib node_modules/@node-llama-cpp/linux-x64/bins/linux-x64";

/// Builds `netweight`, then starts the script that runs both programs.
///
/// # Errors
/// Without the directory; if cargo or Python cannot be started.
pub fn run(tree: &Tree, options: &Options) -> Result<ExitCode> {
    let lib = &options.lib;
    ensure!(lib.is_dir(), "`{}` is not a directory; `cargo xtask llamacpp --help` says where to get it", lib.display());
    let mut build = tree.cargo("build");
    let code = tree::run(build.args(["--release", "--package", "netweight-cli"]))?;
    if code != 0 {
        return Ok(code.into());
    }
    let program = tree.metadata()?.target_directory.join("release/netweight").with_extension(EXE_EXTENSION);
    let mut script = Command::new(&options.python);
    script.arg(tree.path("xtask/llama_speed.py")).arg("--lib").arg(lib);
    script.arg("--netweight").arg(program);
    for (option, value) in [("--rounds", options.rounds), ("--tokens", options.tokens)] {
        script.arg(option).arg(value.to_string());
    }
    Ok(tree::run(script.arg("--threads").arg(options.threads.to_string()))?.into())
}
