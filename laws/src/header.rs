//! Law 5, header: the configuration round-trips through text without loss, and an error names what
//! is wrong in an invalid text.

use std::sync::Arc;
use std::time::Duration;

use codec_api::{Codec, DecodeCx, Dtype, EncodedTensor, MAX_NESTING, SpecError, header as header_of};
use serde_json::{Value, json};

use super::guard::{Stuck, Watch, catch, watched};
use super::{FLOAT_DTYPES, Law, Subject, Violation};

/// Longest time for one odd configuration before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A field that no codec has.
const UNKNOWN: &str = "no_codec_has_this_field";

/// A number of nested codecs that every reader must refuse.
const MANY: usize = 1_000;

/// Header and spec round-trip to identical text under the registered id. An unknown field, a newer,
/// older or missing version, a value out of range and 1,000 nested codecs are refused with a
/// message that names them. The header of each older version is read
/// ([`codec_api::CodecEntry::upgrades`]). An accepted value stays unchanged and does not make the
/// codec panic.
///
/// # Errors
/// The first violation found.
pub fn header(subject: &Subject) -> Result<(), Violation> {
    let text = text_of(subject, &*subject.codec)?;
    round_trips(subject, &text)?;
    let object: Value = serde_json::from_str(&text).map_err(|e| wrong(subject, "header", &e.to_string(), "JSON"))?;
    refuses_unknown(subject, &object)?;
    refuses_versions(subject, &object)?;
    refuses_nesting(subject)?;
    reads_older_versions(subject)?;
    let inside = subject.clone();
    watched(PATIENCE, move |watch| odd_values(&inside, &object, watch)).unwrap_or_else(|stuck| {
        let (case, found) = match stuck {
            Stuck::Hangs(case) => (case, "no answer"),
            Stuck::Panicked(case) => (case, "a panic"),
        };
        Err(wrong(subject, &case, found, "a refusal, or a codec that works"))
    })
}

fn round_trips(subject: &Subject, text: &str) -> Result<(), Violation> {
    let registry = &subject.registry;
    let tag = subject.codec.typetag_name();
    if tag != subject.entry.id {
        return Err(wrong(subject, "header", &format!("tag `{tag}`"), "the registered id"));
    }
    let read = |codec: Result<Arc<dyn Codec>, SpecError>, from: &str| {
        let codec = codec.map_err(|e| wrong(subject, from, &e.to_string(), "it reads back"))?;
        let again = text_of(subject, &*codec)?;
        if again == text { Ok(()) } else { Err(wrong(subject, from, &again, text)) }
    };
    read(registry.parse_header(text), "header")?;
    let spec = registry.spec_of(&*subject.codec);
    read(registry.parse_spec(&spec), &format!("spec `{spec}`"))
}

fn refuses_unknown(subject: &Subject, object: &Value) -> Result<(), Violation> {
    let mut changed = object.clone();
    changed[UNKNOWN] = json!(1);
    refused(subject, "an unknown field", &changed.to_string(), UNKNOWN)
}

fn refuses_versions(subject: &Subject, object: &Value) -> Result<(), Violation> {
    let Some(version) = object["version"].as_u64() else {
        return Err(wrong(subject, "field `version`", &object.to_string(), "an integer version"));
    };
    if version != subject.entry.upgrades.len() as u64 + 1 {
        return Err(wrong(subject, "field `version`", &version.to_string(), "one more than there are upgrades"));
    }
    for other in [version + 1, u64::from(u32::MAX), 0] {
        let mut changed = object.clone();
        changed["version"] = json!(other);
        refused(subject, &format!("version {other}"), &changed.to_string(), "version")?;
    }
    let mut changed = object.clone();
    if let Some(fields) = changed.as_object_mut() {
        fields.remove("version");
    }
    refused(subject, "no version", &changed.to_string(), "version")
}

/// The example of each older version is read as the newest version.
fn reads_older_versions(subject: &Subject) -> Result<(), Violation> {
    let upgrades = subject.entry.upgrades;
    for (version, upgrade) in (1u64..).zip(upgrades) {
        let case = format!("the example of version {version}");
        let example: Value = serde_json::from_str(upgrade.example).unwrap_or_default();
        if example["codec"] != subject.entry.id || example["version"] != version {
            return Err(wrong(subject, &case, upgrade.example, "a header with this id and version"));
        }
        let codec = subject.registry.parse_header(upgrade.example);
        let codec = codec.map_err(|e| wrong(subject, &case, &e.to_string(), "it is read"))?;
        let text = text_of(subject, &*codec)?;
        let newest: Value = serde_json::from_str(&text).unwrap_or_default();
        if newest["version"] != upgrades.len() as u64 + 1 {
            return Err(wrong(subject, &case, &text, "the newest version"));
        }
    }
    Ok(())
}

fn refuses_nesting(subject: &Subject) -> Result<(), Violation> {
    let id = subject.entry.id;
    let field = subject.entry.children.first().unwrap_or(&"inner");
    let header = format!(r#"{{"codec":"{id}","version":1,"{field}":"#).repeat(MANY) + "null" + &"}".repeat(MANY);
    let spec = format!("{id}(").repeat(MANY) + id + &")".repeat(MANY);
    let read = [("header", subject.registry.parse_header(&header)), ("spec", subject.registry.parse_spec(&spec))];
    for (what, answer) in read {
        if !matches!(answer, Err(SpecError::TooDeep)) {
            let found = answer.map_or_else(|e| e.to_string(), |_| "it is read".to_owned());
            let wanted = format!("a refusal, since at most {MAX_NESTING} may be nested");
            return Err(wrong(subject, &format!("{what} with {MANY} nested codecs"), &found, &wanted));
        }
    }
    Ok(())
}

/// Puts absurd values into each field except id, version and children (the laws check child codecs
/// separately).
fn odd_values(subject: &Subject, object: &Value, watch: &Watch<'_>) -> Result<(), Violation> {
    let odd =
        [json!(4_000_000_000_u64), json!(-1), json!(0), json!(0.5), json!(1e300), json!("no-such-value"), json!([])];
    let fields = object.as_object().into_iter().flatten();
    for (field, _) in fields.filter(|(field, v)| !["codec", "version"].contains(&field.as_str()) && !v.is_object()) {
        for value in &odd {
            let mut changed = object.clone();
            changed[field] = value.clone();
            let case = format!("field `{field}` = {value}");
            watch.case(case.as_str());
            let codec = catch(|| subject.registry.parse_header(&changed.to_string()));
            match codec.map_err(|message| wrong(subject, &case, &message, "no panic"))? {
                Err(e) if e.to_string().contains(field.as_str()) => {}
                Err(e) => {
                    return Err(wrong(subject, &case, &e.to_string(), &format!("a message that names `{field}`")));
                }
                Ok(codec) => keeps(subject, &case, field, value, codec)?,
            }
        }
    }
    Ok(())
}

/// An accepted value stays unchanged and does not make the codec panic.
fn keeps(subject: &Subject, case: &str, field: &str, value: &Value, codec: Arc<dyn Codec>) -> Result<(), Violation> {
    let text = text_of(subject, &*codec)?;
    let again: Value = serde_json::from_str(&text).unwrap_or_default();
    if again[field] != *value && again[field].as_f64() != value.as_f64() {
        let found = format!("it is read, and written as {}", again[field]);
        return Err(wrong(subject, case, &found, "a refusal, or the value as given"));
    }
    let trial = Subject { codec, ..subject.clone() };
    catch(|| try_out(&trial)).map_err(|message| wrong(subject, case, &message, "a refusal, or a codec that works"))
}

/// Encodes and decodes a small tensor; the results do not matter.
fn try_out(subject: &Subject) {
    let offer = subject.codec.needs();
    for (dtype, shape) in FLOAT_DTYPES.into_iter().map(|dtype| (dtype, [3, 70])).chain([(Dtype::F32, [0, 5])]) {
        let Ok(sample) = subject.taken(dtype, &shape) else { continue };
        let Ok(view) = sample.view() else { continue };
        let _ = (subject.codec.cost(sample.spec()), subject.codec.chunking(sample.spec()));
        let encoded = sample.encode_cx(offer).and_then(|cx| EncodedTensor::encode(subject.codec.clone(), view, &cx));
        if let Ok(encoded) = encoded {
            drop(encoded.decode(&sample.decode_cx(offer).unwrap_or_else(|_| DecodeCx::new())));
        }
    }
}

/// Parsing the header text fails with a message that contains `name`.
fn refused(subject: &Subject, case: &str, text: &str, name: &str) -> Result<(), Violation> {
    match subject.registry.parse_header(text) {
        Err(e) if e.to_string().contains(name) => Ok(()),
        Err(e) => Err(wrong(subject, case, &e.to_string(), &format!("a message that names `{name}`"))),
        Ok(_) => Err(wrong(subject, case, "it is read", "a refusal")),
    }
}

fn text_of(subject: &Subject, codec: &dyn Codec) -> Result<String, Violation> {
    header_of(codec).map_err(|e| wrong(subject, "header", &e.to_string(), "it serialises"))
}

fn wrong(subject: &Subject, case: &str, found: &str, wanted: &str) -> Violation {
    subject.violation(Law::Header, case, found, wanted)
}
