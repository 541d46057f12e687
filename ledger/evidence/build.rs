//! Compiles `counterfoil/evidence/v1` with protox, so that nobody needs to install protoc.

use std::{error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from("../../proto");
    let folder = root.join("counterfoil/evidence/v1");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|ext| ext == "proto"));
    files.sort();
    let mut descriptors = protox::compile(&files, [&root])?;
    // Comments and positions would change the schema hash without changing the schema.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("evidence.binpb"), descriptors.encode_to_vec())?;
    let documented = protox::compile(&files, [&root])?;
    prost_build::Config::new()
        .enable_type_names()
        .compile_fds(documented)?;
    Ok(())
}
