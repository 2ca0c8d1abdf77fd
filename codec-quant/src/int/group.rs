//! The groups of weights that share a scale.

use serde::{Deserialize, Serialize};

/// The weights that share one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub enum Group {
    /// This many neighbours in a row: a multiple of 16 from 16 to 512.
    Size(u32),
    /// A row of the matrix view.
    Row,
    /// All weights of the tensor.
    Tensor,
}

impl Group {
    /// Groups of `SIZE` neighbours; checked at compile time.
    pub const fn of<const SIZE: u32>() -> Self {
        const { assert!(valid(SIZE as i64), "not a multiple of 16 from 16 to 512") };
        Self::Size(SIZE)
    }
}

const fn valid(size: i64) -> bool {
    16 <= size && size <= 512 && size % 16 == 0
}

/// Serialised form of a group: a number or a word.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a multiple of 16 from 16 to 512, `row` or `tensor` is wanted")]
enum Text {
    Size(i64),
    Word(String),
}

impl TryFrom<Text> for Group {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        let found = match &text {
            Text::Size(size) if valid(*size) => return Ok(Self::Size(*size as u32)),
            Text::Word(word) if word == "row" => return Ok(Self::Row),
            Text::Word(word) if word == "tensor" => return Ok(Self::Tensor),
            Text::Size(size) => size.to_string(),
            Text::Word(word) => format!("`{word}`"),
        };
        Err(format!("{found} is out of range: a multiple of 16 from 16 to 512, `row` or `tensor` is wanted"))
    }
}

impl From<Group> for Text {
    fn from(group: Group) -> Self {
        match group {
            Group::Size(size) => Self::Size(size.into()),
            Group::Row => Self::Word("row".to_owned()),
            Group::Tensor => Self::Word("tensor".to_owned()),
        }
    }
}
