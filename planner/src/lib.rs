//! Decisions from measurements: which compression of a model meets limits at the least cost, and
//! which model of a fleet answers a request.
//!
//! - [`Profile`]: what was measured of one variant of a model; [`Profiles`]: a file of them
//! - [`Constraints`], [`Objective`], [`choose`], [`pareto`]: the best of several profiles
//! - [`Search`]: the best of many candidates, most of which are measured in part only
//! - [`Fleet`]: variants, hardware and prices; [`Request`], [`Class`]: what a request needs;
//!   [`Decision`]: who answers it, and why the others do not
//! - [`serve`]: queues and batches event by event; [`simulate`]: a fleet under traffic
//!
//! No function here runs a model. Decisions are pure functions of their arguments, and simulations
//! give the same bits on every machine.

mod choose;
mod class;
mod error;
mod fleet;
mod limit;
mod profile;
mod profiles;
mod request;
mod route;
mod search;
pub mod seed001;
mod simulate;

pub use choose::{Constraints, Near, Objective, choose, pareto};
pub use class::{Class, Classes};
pub use error::{Error, Result};
pub use fleet::{Fleet, Hardware, Placement, Speed, Stated, Variant};
pub use limit::{Limit, Miss};
pub use profile::{Estimate, Key, Latency, Lengths, Machine, Profile, Settings};
pub use profiles::Profiles;
pub use request::{History, Request, TokenCount};
pub use route::{Aim, Decision, Need, Offer, Remedy};
pub use search::{Bench, Candidate, Dropped, Found, Round, Search, Stage};
pub use simulate::{
    Arrival, Batching, Job, MAX_REQUESTS, Planned, Poisson, Quantiles, Served, Simulation, Site, UTILISATION,
    cost_per_million, quantile, serve, simulate, trace,
};
