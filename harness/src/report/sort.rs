//! Sorting rows or summaries by the name of a column.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::Value;

/// The error for a column that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("unknown column `{name}`; the columns are: {known}")]
pub struct UnknownColumn {
    name: String,
    known: String,
}

/// Sorts [`Row`](crate::matrix::Row)s or [`Summary`](super::Summary)s by a column, ascending,
/// unknown values last. The sort is stable.
///
/// # Errors
/// [`UnknownColumn`] with all columns; an empty list accepts every name.
pub fn sort_by_column<T: Serialize>(rows: &mut Vec<T>, column: &str) -> Result<(), UnknownColumn> {
    if let Some(Value::Object(first)) = rows.first().map(value)
        && !first.contains_key(column)
    {
        let known = first.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(UnknownColumn { name: column.to_owned(), known });
    }
    let mut keyed: Vec<_> = rows.drain(..).map(|row| (value(&row)[column].take(), row)).collect();
    keyed.sort_by(|(a, _), (b, _)| order(a, b));
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

fn value<T: Serialize>(row: &T) -> Value {
    serde_json::to_value(row).unwrap_or_default()
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => a.is_null().cmp(&b.is_null()),
        (Value::Number(x), Value::Number(y)) => {
            x.as_f64().unwrap_or(f64::NAN).total_cmp(&y.as_f64().unwrap_or(f64::NAN))
        }
        (Value::String(x), Value::String(y)) => x.cmp(y),
        // Shapes: the first axis decides, then the next one.
        (Value::Array(x), Value::Array(y)) => {
            let axes = x.iter().zip(y).map(|(x, y)| order(x, y));
            axes.fold(Ordering::Equal, Ordering::then).then(x.len().cmp(&y.len()))
        }
        _ => Ordering::Equal,
    }
}
