//! Compiles the API with protox, so that nobody needs to install protoc.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(".");
    println!("cargo:rerun-if-changed=counterfoil");
    let files = protos(&root)?;
    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // Encoded by protox, not by prost-types, which would drop the methods' permissions: they are extensions.
    fs::write(out.join("api.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .extern_path(".counterfoil.evidence.v1", "::counterfoil_evidence::v1")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn protos(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for package in fs::read_dir(root.join("counterfoil"))? {
        let folder = package?.path().join("v1");
        for file in fs::read_dir(folder).into_iter().flatten() {
            let path = file?.path();
            if path.extension().is_some_and(|ext| ext == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
