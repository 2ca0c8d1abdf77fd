//! Versions of JSON objects: an object of an older version is rewritten before it is read.

use serde_json::{Map, Value};

/// The step from one format version of a JSON object to the next.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Upgrade {
    /// An example object of the older version, for the tests of the laws.
    pub example: &'static str,
    /// Rewrites an object of the older version as one of the next; the caller sets the version. The
    /// error says what is wrong with the object.
    pub apply: fn(&mut Map<String, Value>) -> Result<(), String>,
}

impl Upgrade {
    /// The step that `apply` makes, with an example of the older version.
    pub const fn new(example: &'static str, apply: fn(&mut Map<String, Value>) -> Result<(), String>) -> Self {
        Self { example, apply }
    }
}

pub(crate) const VERSION: &str = "version";

/// Brings an object to version `upgrades.len() + 1`: `upgrades[0]` makes version 2 of version 1. A
/// version that is not from 1 to the newest stays unchanged, and reading the object then fails.
pub(crate) fn upgrade(object: &mut Map<String, Value>, upgrades: &[Upgrade]) -> Result<(), String> {
    let Some(version) = object.get(VERSION) else { return Err(format!("the header has no `{VERSION}`")) };
    let done = version.as_u64().and_then(|version| usize::try_from(version).ok()?.checked_sub(1));
    let Some(left) = done.and_then(|done| upgrades.get(done..)) else { return Ok(()) };
    left.iter().try_for_each(|upgrade| (upgrade.apply)(object))?;
    object.insert(VERSION.to_owned(), (upgrades.len() + 1).into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UPGRADES: &[Upgrade] = &[
        Upgrade::new(r#"{"version":1}"#, |object| {
            object.insert("packing".to_owned(), "plain".into());
            Ok(())
        }),
        Upgrade::new(r#"{"version":2,"packing":"plain"}"#, |object| {
            let packing = object.remove("packing").ok_or("the header has no `packing`")?;
            object.insert("layout".to_owned(), packing);
            Ok(())
        }),
    ];

    fn upgraded(object: Value) -> Result<Value, String> {
        let Value::Object(mut object) = object else { return Err("no object".to_owned()) };
        upgrade(&mut object, UPGRADES).map(|()| Value::Object(object))
    }

    #[test]
    fn every_older_version_becomes_the_newest() {
        assert_eq!(upgraded(json!({"version": 1})), Ok(json!({"version": 3, "layout": "plain"})));
        assert_eq!(upgraded(json!({"version": 2, "packing": "x"})), Ok(json!({"version": 3, "layout": "x"})));
        assert_eq!(upgraded(json!({"version": 3, "layout": "x"})), Ok(json!({"version": 3, "layout": "x"})));
    }

    #[test]
    fn other_versions_are_left_to_the_reader() {
        for version in [json!(0), json!(4), json!(u64::MAX), json!(-1), json!("1"), json!(null)] {
            assert_eq!(upgraded(json!({ "version": version })), Ok(json!({ "version": version })));
        }
        assert_eq!(upgraded(json!({})), Err("the header has no `version`".to_owned()));
        assert_eq!(upgraded(json!({"version": 2})), Err("the header has no `packing`".to_owned()));
    }
}
