//! The `netweight` program with the codecs of this tree. A program with more codecs also names
//! their crates here.

use codecs as _;

fn main() -> std::process::ExitCode {
    cli::main()
}
