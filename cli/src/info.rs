//! `netweight info FILE`: the contents of a model, of a packed model or of an encoded tensor.

mod computed;
mod encoded;
mod model;
pub mod packed;

use std::io::Write;

use anyhow::{Context, Result, bail};
use checkpoint::{Checkpoint, Model, Packed};
use codec_api::Registry;
use serde::Serialize;

use crate::Outcome;
use crate::args::Info;
use crate::text;

/// The metadata key of a safetensors file with an encoded tensor.
const ENCODED: &str = "netweight";

/// Prints the contents of the file or directory. An encoded tensor is also decoded.
///
/// # Errors
/// If it cannot be read, or the output cannot be written.
pub fn run(args: &Info, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let model = match Checkpoint::open(&args.file) {
        Ok(model) if model.is_packed() => {
            return packed(args, Packed::open(&model.files()[0], registry)?, registry, out);
        }
        Ok(model) if model.is_computed() => {
            let model = Model::open(&args.file, &args.base.bases, registry)?;
            print(args, &computed::Model::read(&model)?, computed::Model::table, out)?;
            return Ok(Outcome::Clean);
        }
        Ok(model) => model,
        // A packed file that was cut off may hold quality levels.
        Err(error) => match Packed::open(&args.file, registry) {
            Ok(found) => return packed(args, found, registry, out),
            Err(_) => return Err(error.into()),
        },
    };
    if !args.base.bases.is_empty() {
        bail!("`{}` is not a packed model, so it has no base; leave `--base` out", args.file.display());
    }
    if let [file] = model.files()
        && model.metadata().contains_key(ENCODED)
    {
        let found = encoded::Encoded::read(file, registry);
        let found = found.with_context(|| format!("cannot read `{}`", file.display()))?;
        print(args, &found, encoded::Encoded::table, out)?;
        return Ok(if found.is_sound() { Outcome::Clean } else { Outcome::Found });
    }
    print(args, &model::Model::read(&model)?, model::Model::table, out)?;
    Ok(Outcome::Clean)
}

fn packed(args: &Info, packed: Packed, registry: &Registry, out: &mut dyn Write) -> Result<Outcome> {
    let packed = packed.with_bases(&args.base.bases, registry)?;
    if !args.base.bases.is_empty() {
        packed.check_base()?;
    }
    print(args, &packed::Model::read(&packed, registry)?, packed::Model::table, out)?;
    Ok(Outcome::Clean)
}

fn print<T: Serialize>(
    args: &Info,
    found: &T,
    table: fn(&T, Option<usize>) -> String,
    out: &mut dyn Write,
) -> Result<()> {
    if args.json {
        text::write_json(out, found)?;
    } else {
        writeln!(out, "{}", table(found, text::width()))?;
    }
    Ok(())
}
