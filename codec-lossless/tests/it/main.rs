//! Payload sizes of weights, ranges of rows, and damage.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use codec_api::{Payload, Section};

mod bf16x12;
mod conformance;
mod damage;
mod ends;
mod extremes;
mod rows;
mod sizes;

/// The payload with another section of this name.
fn replaced(payload: &Payload, name: &str, section: Section) -> Payload {
    let mut others = payload.sections().iter().filter(|(other, _)| *other != name);
    let rest = others.try_fold(Payload::new(), |rest, (other, section)| rest.with(other, section.clone()));
    rest.unwrap().with(name, section).unwrap()
}
