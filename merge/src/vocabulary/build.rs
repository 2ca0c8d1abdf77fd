//! The vocabulary that a recipe asks for, made out of those of its models.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::settings::{Embedding, From, Settings, Which};
use super::tokenizer::{Tokenizer, plain};
use super::union::Union;
use super::{Given, NONE, Told, Vocabulary, count, files, has_tokens, list};
use crate::error::{Error, Result};
use crate::plan::Opened;
use crate::recipe::{ModelReference, Recipe};

impl Vocabulary {
    /// The vocabulary that a recipe asks for; `None` if it asks for none.
    ///
    /// # Errors
    /// [`Error::Key`] with the key of the recipe; [`Error::File`] with the tokenizer.
    pub(crate) fn new(
        recipe: &Recipe,
        models: &[Opened],
        base: Option<usize>,
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        let Some(settings) = Settings::of(recipe)? else { return Ok(None) };
        let limits = models.iter().map(limit).collect::<Result<Vec<u32>>>()?;
        let builder = Builder { settings: &settings, models, limits, donor: base.unwrap_or(0), base };
        builder.build(notes).map(Some)
    }
}

struct Builder<'a> {
    settings: &'a Settings,
    models: &'a [Opened],
    /// By model: the id from which on tokens have no row.
    limits: Vec<u32>,
    /// The model that the configuration comes from.
    donor: usize,
    base: Option<usize>,
}

impl Builder<'_> {
    fn build(&self, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let donor = self.tokenizer(self.donor)?;
        let donor_ids = donor.ids.clone();
        let (directory, mut out) = self.output(donor, notes)?;
        let ids = self.others(&mut out, &donor_ids, notes)?;
        self.add_told(&mut out, notes)?;
        let renumbered: HashMap<_, _> =
            donor_ids.into_iter().map(|(text, id)| (id, out.ids.get(&text).copied())).collect();
        let renumbered = Some(renumbered).filter(|map| map.iter().any(|(old, new)| *new != Some(*old)));
        let mut files = files::read_files(&directory)?;
        files::write(&mut files, &directory, &out)?;
        let rows = (out.end as usize).next_multiple_of(self.settings.pad);
        let mut texts = vec![None; out.end as usize];
        out.ids.iter().for_each(|(text, id)| texts[*id as usize] = Some(text.clone()));
        let told = self.told(&out, &ids)?;
        let padding = rows - out.ids.len();
        let behind = if padding == 0 {
            String::new()
        } else {
            format!(", and behind them {} with their mean", count(padding, "row"))
        };
        notes.push(format!("the vocabulary has {}{behind}", count(out.ids.len(), "token")));
        let (own, counts) = self.own(&texts, &ids, notes);
        let limits = self.limits.clone();
        Ok(Vocabulary { rows, texts, own, limits, counts, told, base: self.base, files, renumbered })
    }

    fn directory(&self, model: usize) -> Result<&Path> {
        let model = &self.models[model];
        let reason = || format!("`{}` is a file; the directory of a model has the tokenizer too", model.name());
        model.directory().map(|(directory, _)| directory).ok_or_else(|| Error::key(self.settings.key, reason()))
    }

    fn tokenizer(&self, model: usize) -> Result<Tokenizer> {
        Tokenizer::read(self.directory(model)?)
    }

    /// The tokenizer that the output's begins with, and its directory.
    fn output(&self, donor: Tokenizer, notes: &mut Vec<String>) -> Result<(std::path::PathBuf, Tokenizer)> {
        let (directory, mut out, limit) = match &self.settings.from {
            From::Directory(path) => {
                let model = self.models.iter().position(|model| model.reference.path == *path);
                let limit = model.map_or_else(|| stated(path), |model| Ok(Some(self.limits[model])))?;
                (path.clone(), Tokenizer::read(path)?, limit.unwrap_or(NONE))
            }
            _ => (self.directory(self.donor)?.to_owned(), donor, self.limits[self.donor]),
        };
        if out.end > limit {
            let (before, path) = (out.ids.len(), out.path.clone());
            out.cut(limit).map_err(|reason| Error::file(&path, reason))?;
            let (count, shown) = (count(before - out.ids.len(), "token"), path.display());
            notes.push(format!("{count} of `{shown}` have no row in the model, and are taken out"));
        }
        Ok((directory, out))
    }

    /// The ids of the tokens of all models. A union gets what it lacks.
    fn others(
        &self,
        out: &mut Tokenizer,
        donor: &HashMap<String, u32>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<HashMap<String, u32>>> {
        let mut union = (self.settings.from == From::Union).then(|| Union::new(out));
        let mut all = Vec::new();
        for (number, model) in self.models.iter().enumerate() {
            if number == self.donor {
                all.push(donor.clone());
                continue;
            }
            let tokenizer = self.tokenizer(number)?;
            let unlike = out.unlike(&tokenizer);
            if !unlike.is_empty() {
                let (keys, name) = (list(unlike.iter().map(|key| format!("`{key}`"))), model.name());
                notes.push(format!(
                    "the tokenizer of `{name}` differs from that of the output in {keys}: a token may have another \
                     meaning there"
                ));
            }
            if let Some(union) = &mut union {
                union.add(&model.name(), &tokenizer, self.limits[number]);
            }
            all.push(tokenizer.ids);
        }
        if let Some(union) = union {
            union.finish(out, &self.models[self.donor].name(), notes)?;
        }
        Ok(all)
    }

    /// Tokens that only the recipe has.
    fn add_told(&self, out: &mut Tokenizer, notes: &mut Vec<String>) -> Result<()> {
        let new: Vec<&str> =
            self.settings.tokens.iter().map(|told| &*told.text).filter(|text| !out.ids.contains_key(*text)).collect();
        if !new.is_empty() {
            let shown = list(new.iter().map(|text| format!("`{text}`")));
            notes.push(format!("the recipe adds to the vocabulary: {shown}"));
            let new: Vec<Value> = new.into_iter().map(plain).collect();
            out.add(&new).map_err(|reason| Error::file(&out.path, reason))?;
        }
        Ok(())
    }

    /// By model: the row of each id, and the number of tokens that have one.
    fn own(
        &self,
        texts: &[Option<String>],
        ids: &[HashMap<String, u32>],
        notes: &mut Vec<String>,
    ) -> (Vec<Vec<u32>>, Vec<usize>) {
        let (mut own, mut counts) = (Vec::new(), Vec::new());
        let known: HashSet<&str> = texts.iter().flatten().map(String::as_str).collect();
        for ((ids, limit), model) in ids.iter().zip(&self.limits).zip(self.models) {
            let row = |text: &Option<String>| {
                let id = text.as_ref().and_then(|text| ids.get(text)).copied().filter(|id| id < limit);
                id.unwrap_or(NONE)
            };
            own.push(texts.iter().map(row).collect());
            let with_row = ids.values().filter(|id| *id < limit).count();
            counts.push(with_row);
            let (beyond, name) = (ids.len() - with_row, model.name());
            if beyond > 0 {
                notes.push(format!(
                    "{} of `{name}` have no row in its embedding: they count as missing",
                    count(beyond, "token")
                ));
            }
            let mut dropped: Vec<(&u32, &String)> = ids
                .iter()
                .filter(|(text, id)| *id < limit && !known.contains(text.as_str()))
                .map(|(t, i)| (i, t))
                .collect();
            dropped.sort_unstable();
            if !dropped.is_empty() {
                let (count, shown) =
                    (count(dropped.len(), "token"), list(dropped.iter().map(|(_, text)| format!("`{text}`"))));
                notes.push(format!(
                    "{count} of `{name}` are not in the vocabulary, and their rows are left out: {shown}"
                ));
            }
        }
        (own, counts)
    }

    /// What the recipe says about tokens, by id.
    fn told(&self, out: &Tokenizer, ids: &[HashMap<String, u32>]) -> Result<HashMap<u32, Told>> {
        let mut all = HashMap::new();
        for token in &self.settings.tokens {
            let key = format!("tokenizer.tokens.{}.source", token.text);
            let given = token.embedding.as_ref().map(|embedding| self.given(&key, embedding, ids)).transpose()?;
            if let Some(id) = out.ids.get(&token.text) {
                all.insert(*id, Told { given, force: token.force });
            }
        }
        Ok(all)
    }

    fn given(&self, key: &str, embedding: &Embedding, ids: &[HashMap<String, u32>]) -> Result<Given> {
        Ok(match embedding {
            Embedding::Zero => Given::Zero,
            Embedding::Model(model) => Given::Model(self.number(key, model)?),
            Embedding::Token(model, Which::Id(id)) => Given::Row(self.number(key, model)?, *id),
            Embedding::Token(model, Which::Text(text)) => {
                let number = self.number(key, model)?;
                let id = ids[number].get(text);
                let id = id.ok_or_else(|| Error::key(key, format!("`{model}` does not have the token `{text}`")))?;
                Given::Row(number, *id)
            }
        })
    }

    fn number(&self, key: &str, model: &ModelReference) -> Result<usize> {
        let found = self.models.iter().position(|known| known.reference == *model);
        found.ok_or_else(|| {
            let all = list(self.models.iter().map(|known| format!("`{}`", known.name())));
            Error::key(key, format!("`{model}` is no model of the recipe; there are {all}"))
        })
    }
}

/// The id from which on tokens of a model have no row: what its configuration states, and the rows
/// of its embedding.
fn limit(model: &Opened) -> Result<u32> {
    let stated = model.directory().map(|(directory, _)| stated(directory)).transpose()?.flatten();
    let rows = model.ordered().into_iter().filter(|name| has_tokens(name) && name.ends_with(".weight"));
    let rows = rows.filter_map(|name| Some(*model.spec(name).ok()?.shape().first()? as u32)).max();
    Ok(stated.unwrap_or(NONE).min(rows.unwrap_or(NONE)))
}

/// The size of the vocabulary in the configuration of a model.
fn stated(directory: &Path) -> Result<Option<u32>> {
    let path = directory.join("config.json");
    if !path.exists() {
        return Ok(None);
    }
    let config = files::read_object(&path)?;
    let size = config.get("vocab_size").or_else(|| config.get("text_config")?.get("vocab_size"));
    Ok(size.and_then(Value::as_u64).and_then(|size| u32::try_from(size).ok()))
}
