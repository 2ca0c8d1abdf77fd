//! The routing of an earlier system: its table of models, its requests, and what its report says of
//! them.

use crate::class::Class;
use crate::error::Result;
use crate::fleet::Fleet;
use crate::request::Request;

/// Its table of models, as a fleet file.
pub const FLEET: &str = include_str!("../fleets/seed001.toml");

/// The quality that every request needs there, whatever its class.
pub const QUALITY: f64 = 0.85;

/// A request of the report, and the row of its table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// Its name in the report.
    pub name: &'static str,
    /// The prompt.
    pub prompt: &'static str,
    /// The most tokens of the output.
    pub max_tokens: u64,
    /// The printed class.
    pub class: Class,
    /// The printed model, hardware and dollars per million tokens; the report left two rows blank.
    pub printed: Option<(&'static str, &'static str, f64)>,
}

/// Its four requests.
pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "Simple math",
        prompt: "What is 2+2?",
        max_tokens: 10,
        class: Class::Simple,
        printed: Some(("Llama-2-7b", "T4", 2.78)),
    },
    Scenario {
        name: "Code generation",
        prompt: "Write a Python function to sort a list",
        max_tokens: 100,
        class: Class::Moderate,
        printed: Some(("Llama-2-7b", "T4", 2.78)),
    },
    Scenario {
        name: "Long explanation",
        prompt: "Explain quantum computing in detail",
        max_tokens: 500,
        class: Class::Complex,
        printed: None,
    },
    Scenario {
        name: "Complex analysis",
        prompt: "Analyze the economic impact of AI on global markets",
        max_tokens: 1000,
        class: Class::Extreme,
        printed: None,
    },
];

impl Scenario {
    /// The request.
    pub fn request(&self) -> Request {
        Request { prompt: Some(self.prompt.to_owned()), max_tokens: self.max_tokens, ..Request::default() }
    }
}

/// Its estimate of savings: requests per day, dollars per request, share of the requests that go to
/// a smaller model, and saving of each.
pub const SAVINGS: (f64, f64, f64, f64) = (1e6, 0.002, 0.30, 0.30);

/// Dollars per year of all requests, and what routing saves of them, as the report multiplies them.
pub fn savings() -> (f64, f64) {
    let (per_day, cost, rate, saving) = SAVINGS;
    let year = per_day * 365.0 * cost;
    (year, year * rate * saving)
}

/// Its table of models.
///
/// # Errors
/// If the file in this crate is wrong.
pub fn fleet() -> Result<Fleet> {
    Fleet::from_toml("seed001", FLEET, None)
}
