#!/usr/bin/env bash
# The cargo that maturin calls in `cargo xtask python`. Cargo chooses the features of libraries for
# all packages of a command together: with the extension alone, as maturin asks for, most libraries
# of the tests would be compiled again. So this builds the extension together with the tests.
set -euo pipefail
[[ $1 == rustc ]] || exec cargo "$@"
exec cargo build --workspace --lib --tests --message-format json-render-diagnostics
