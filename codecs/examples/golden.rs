//! `cargo xtask golden`: writes the golden files that do not exist yet. It never changes existing
//! files, because they hold what released versions wrote.

#[path = "../tests/it/golden_files.rs"]
mod golden;

use std::fs;

use codec_api::Registry;
use codecs as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::linked()?;
    fs::create_dir_all(golden::directory())?;
    for (name, codec) in golden::presets(&registry) {
        let path = golden::directory().join(format!("{name}.safetensors"));
        if path.exists() {
            continue;
        }
        let file = golden::encode(&codec).to_bytes()?;
        fs::write(path.with_extension("blake3"), golden::decoded_hash(file.clone(), &registry) + "\n")?;
        fs::write(&path, file)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
