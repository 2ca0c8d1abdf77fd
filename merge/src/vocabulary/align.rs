//! The tensors of a vocabulary, row by row in the order of the output.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_api::TensorSpec;

use super::rows::{Permuted, Row, RowMap};
use super::{Given, NONE, Vocabulary, count, list};
use crate::error::{Error, Result};
use crate::plan::{Input, Opened};
use crate::source::Source;

/// A tensor of the output with the rows of another order than the inputs'.
#[derive(Clone, Debug)]
pub(crate) struct Aligned {
    /// The inputs that share rows.
    inputs: Vec<Input>,
    /// The rows of each.
    maps: Vec<Arc<RowMap>>,
}

impl Aligned {
    /// Where every row comes from, for a hash.
    pub(crate) fn identity(&self) -> String {
        format!("{:?}", self.maps)
    }

    /// The sources of some inputs of the tensor.
    ///
    /// # Errors
    /// Those of the models.
    pub(crate) fn sources(&self, wanted: &[&Input], models: &[Opened], memory: u64) -> Result<Vec<Box<dyn Source>>> {
        let open = |input: &Input| models[input.model].source(&input.tensor, memory);
        let opened: Arc<[Box<dyn Source>]> = self.inputs.iter().map(open).collect::<Result<Vec<_>>>()?.into();
        let place = |input: &Input| self.inputs.iter().position(|own| own.model == input.model);
        let permuted = |input: &&Input| -> Result<Box<dyn Source>> {
            let unknown = || Error::Method(format!("`{}` is no input of the vocabulary", input.tensor));
            let at = place(input).ok_or_else(unknown)?;
            Ok(Box::new(Permuted::new(Arc::clone(&opened), at, Arc::clone(&self.maps[at]))?))
        };
        wanted.iter().map(permuted).collect()
    }
}

impl Vocabulary {
    /// The rows of the output's tensor `name` for each of these inputs, and the shape of all.
    ///
    /// # Errors
    /// [`Error::Key`] for a row that the recipe names and the model does not have;
    /// [`Error::Tensor`] for a tensor without rows.
    pub(crate) fn align(
        &self,
        name: &str,
        inputs: &[Input],
        specs: &[TensorSpec],
        models: &[Opened],
        notes: &mut Vec<String>,
    ) -> Result<(Aligned, Vec<TensorSpec>)> {
        let mut own: Vec<Input> = Vec::new();
        let mut counts: Vec<usize> = Vec::new();
        for (input, spec) in inputs.iter().zip(specs) {
            let Some(rows) = spec.shape().first() else {
                let reason = "it is a single number; by its name it has a row for each token";
                return Err(Error::tensor(models[input.model].name(), &input.tensor, reason));
            };
            if own.iter().all(|known| known.model != input.model) {
                own.push(input.clone());
                counts.push(*rows);
            }
        }
        let aligning = Aligning { vocabulary: self, inputs: &own, counts: &counts, models, name };
        let maps = (0..own.len()).map(|input| aligning.map(input, notes)).collect::<Result<Vec<_>>>()?;
        let resize = |spec: &TensorSpec| {
            let mut shape = spec.shape().to_vec();
            if let Some(rows) = shape.first_mut() {
                *rows = self.rows;
            }
            TensorSpec::new(spec.dtype(), shape)
        };
        let specs = specs.iter().map(resize).collect::<Result<_, _>>()?;
        Ok((Aligned { inputs: own, maps: maps.into_iter().map(Arc::new).collect() }, specs))
    }
}

struct Aligning<'a> {
    vocabulary: &'a Vocabulary,
    inputs: &'a [Input],
    /// Rows of each input.
    counts: &'a [usize],
    models: &'a [Opened],
    /// The tensor of the output.
    name: &'a str,
}

impl Aligning<'_> {
    /// The row of a token in an input, if the model has the token.
    fn own(&self, input: usize, id: usize) -> Option<u32> {
        let row = *self.vocabulary.own[self.inputs[input].model].get(id)?;
        (row != NONE && (row as usize) < self.counts[input]).then_some(row)
    }

    fn map(&self, input: usize, notes: &mut Vec<String>) -> Result<RowMap> {
        let mut map = RowMap::default();
        let mut filled: BTreeMap<String, usize> = BTreeMap::new();
        for id in 0..self.vocabulary.rows {
            if !self.vocabulary.is_token(id) {
                map.rows.push(Row::Padding);
                continue;
            }
            let force = self.vocabulary.told.get(&(id as u32)).is_some_and(|told| told.force);
            let row = if let Some(row) = self.own(input, id).filter(|_| !force) {
                Row::Of { input: input as u32, row }
            } else {
                let (row, how) = self.default(id, &mut map)?;
                *filled.entry(how).or_default() += 1;
                row
            };
            map.rows.push(row);
        }
        self.say(input, &map, &filled, notes);
        Ok(map)
    }

    /// The row of a token that a model lacks, and what it is for a note.
    fn default(&self, id: usize, map: &mut RowMap) -> Result<(Row, String)> {
        let name = |input: usize| format!("`{}`", self.models[self.inputs[input].model].name());
        let of = |input: usize, row: u32| (Row::Of { input: input as u32, row }, format!("those of {}", name(input)));
        match self.vocabulary.told.get(&(id as u32)).and_then(|told| told.given.as_ref()) {
            Some(Given::Zero) => return Ok((Row::Zero, "zeros".to_owned())),
            Some(Given::Model(model)) => {
                let input = self.input(id, *model)?;
                let row = self.own(input, id).ok_or_else(|| self.fail(id, *model, "does not have the token"))?;
                return Ok(of(input, row));
            }
            Some(Given::Row(model, row)) => {
                let input = self.input(id, *model)?;
                if *row as usize >= self.counts[input] {
                    return Err(self.fail(id, *model, &format!("has no row {row} in `{}`", self.name)));
                }
                return Ok(of(input, *row));
            }
            None => {}
        }
        if self.vocabulary.told.contains_key(&(id as u32)) {
            let reason = "some models do not have the token; say with `source` what row they get";
            return Err(Error::key(self.key(id), reason));
        }
        let owners: Vec<(u32, u32)> =
            (0..self.inputs.len()).filter_map(|input| Some((input as u32, self.own(input, id)?))).collect();
        let base = owners.iter().find(|(input, _)| Some(self.inputs[*input as usize].model) == self.vocabulary.base);
        match (&owners[..], base) {
            ([], _) => Ok((Row::Zero, "zeros".to_owned())),
            ([(input, row)], _) | (_, Some((input, row))) => Ok(of(*input as usize, *row)),
            _ => {
                let number = map.averages.len() as u32;
                let all = list(owners.iter().map(|(input, _)| name(*input as usize)));
                map.averages.push(owners);
                Ok((Row::Average(number), format!("the mean of {all}")))
            }
        }
    }

    fn key(&self, id: usize) -> String {
        format!("tokenizer.tokens.{}", self.vocabulary.text(id))
    }

    fn fail(&self, id: usize, model: usize, reason: &str) -> Error {
        Error::key(format!("{}.source", self.key(id)), format!("`{}` {reason}", self.models[model].name()))
    }

    fn input(&self, id: usize, model: usize) -> Result<usize> {
        let found = self.inputs.iter().position(|input| input.model == model);
        found.ok_or_else(|| self.fail(id, model, &format!("has no part in `{}`, which it is to give a row", self.name)))
    }

    /// What happens to the rows of an input.
    fn say(&self, input: usize, map: &RowMap, filled: &BTreeMap<String, usize>, notes: &mut Vec<String>) {
        let model = self.models[self.inputs[input].model].name();
        let mut add = |note: String| {
            if !notes.contains(&note) {
                notes.push(note);
            }
        };
        for (how, number) in filled {
            add(format!("in `{model}`, the rows of {} are {how}", count(*number, "token")));
        }
        let named = |row: &&Row| matches!(row, Row::Of { input: from, .. } if *from as usize == input);
        let kept = map.rows.iter().filter(named).count();
        let used = self.vocabulary.counts[self.inputs[input].model];
        let left = self.counts[input].saturating_sub(used);
        if kept > 0 && left > 0 {
            add(format!("`{model}` has {} behind its tokens, left out", count(left, "row")));
        }
    }
}
