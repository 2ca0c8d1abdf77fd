//! Values of parameters: scalars, gradients over the layers, and lists with filters.

use serde_json::Value;

/// A value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    /// The same for all tensors.
    Scalar(Scalar),
    /// Interpolated over the layers of a slice.
    Gradient(Vec<f64>),
    /// The first one whose filter is part of the tensor's name.
    Filtered(Vec<(Option<String>, Setting)>),
}

/// A value for one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Number(f64),
    Bool(bool),
}

impl Setting {
    /// # Errors
    /// What the value should be.
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(all) if all.is_empty() => Err("the list is empty".to_owned()),
            Value::Array(all) if all.iter().all(Value::is_object) => {
                all.iter().map(filtered).collect::<Result<_, _>>().map(Self::Filtered)
            }
            Value::Object(_) => Ok(Self::Filtered(vec![filtered(value)?])),
            _ => plain(value),
        }
    }

    /// The value for a tensor at `t` of its slice, from 0 to 1; none if no filter matches.
    pub(crate) fn of(&self, tensor: &str, t: f64) -> Option<Scalar> {
        match self {
            Self::Scalar(scalar) => Some(scalar.clone()),
            Self::Gradient(values) => Some(Scalar::Number(interpolate(values, t))),
            Self::Filtered(all) => {
                let matches = |filter: &Option<String>| filter.as_ref().is_none_or(|f| f == "*" || tensor.contains(f));
                all.iter().find(|(filter, _)| matches(filter)).and_then(|(_, setting)| setting.of(tensor, t))
            }
        }
    }
}

fn interpolate(values: &[f64], t: f64) -> f64 {
    let last = values.len() - 1;
    let x = t * last as f64;
    let below = (x as usize).min(last);
    let above = (below + 1).min(last);
    let part = x - below as f64;
    (1.0 - part) * values[below] + part * values[above]
}

/// A scalar or a gradient.
fn plain(value: &Value) -> Result<Setting, String> {
    match value {
        Value::Bool(flag) => Ok(Setting::Scalar(Scalar::Bool(*flag))),
        Value::Number(number) => finite(number.as_f64()).map(|number| Setting::Scalar(Scalar::Number(number))),
        Value::Array(all) if !all.is_empty() => {
            all.iter().map(|value| finite(value.as_f64())).collect::<Result<_, _>>().map(Setting::Gradient)
        }
        _ => Err(format!("`{value}` is neither a number, true or false, a list of numbers, nor a list of filters")),
    }
}

fn finite(number: Option<f64>) -> Result<f64, String> {
    number.filter(|number| number.is_finite()).ok_or_else(|| "a list of finite numbers is wanted".to_owned())
}

fn filtered(value: &Value) -> Result<(Option<String>, Setting), String> {
    let Value::Object(map) = value else { return Err("an object is wanted".to_owned()) };
    if let Some(key) = map.keys().find(|key| !["filter", "value"].contains(&key.as_str())) {
        return Err(format!("`{key}` is unknown here; the keys are `filter` and `value`"));
    }
    let filter = match map.get("filter") {
        None | Some(Value::Null) => None,
        Some(Value::String(filter)) => Some(filter.clone()),
        Some(other) => return Err(format!("the filter `{other}` is no text")),
    };
    let value = map.get("value").ok_or("the key `value` is missing")?;
    Ok((filter, plain(value)?))
}
