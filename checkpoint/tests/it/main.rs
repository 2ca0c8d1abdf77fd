//! Valid files are read, all others are refused. The tests assemble files by hand to be able to
//! write invalid ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod base;
mod base_refused;
mod best;
mod cache;
mod companions;
mod comparing;
mod directories;
mod estimates;
mod faults;
mod hostile;
mod identity;
mod interrupted;
mod invalid;
mod levels;
mod packed_damage;
mod packing;
mod plan_file;
mod prefix;
mod real_model;
mod recipes;
mod same_file;
mod sets;
mod shards;
mod shortened;
mod support;
mod traces;
mod values;
