//! A bundle as one file: an uncompressed POSIX tar (ustar) of its files, ascending by path, with nothing in its headers that
//! differs between two exporters. The same directory gives the same bytes.
//!
//! Only plain files with names of at most 100 bytes are read: no links, no directories, no extensions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{BundleError, BundleReader, Limits, check_path, reader::check_limits};

const BLOCK: usize = 512;
const NAME_BYTES_MAX: usize = 100;

/// Packs an open bundle into one file, which must not exist yet.
///
/// # Errors
/// When something cannot be read or written.
pub fn pack(bundle: &BundleReader, target: &Path) -> Result<(), BundleError> {
    let file = File::create_new(target).map_err(BundleError::io(target))?;
    let mut out = BufWriter::new(file);
    for (path, size) in bundle.files() {
        out.write_all(&header(path, size)?)
            .map_err(BundleError::io(target))?;
        let mut source = bundle.lines(path)?;
        let written = std::io::copy(&mut source, &mut out).map_err(BundleError::io(target))?;
        let padding = padding(written);
        out.write_all(&[0; BLOCK][..padding])
            .map_err(BundleError::io(target))?;
    }
    out.write_all(&[0; 2 * BLOCK])
        .and_then(|()| out.flush())
        .map_err(BundleError::io(target))?;
    // If we crash before this, the archive is short, and its reader says so.
    out.get_ref().sync_all().map_err(BundleError::io(target))
}

/// Offset and size of each file of an archive.
pub(super) fn index(
    archive: &Path,
    limits: &Limits,
) -> Result<BTreeMap<String, (u64, u64)>, BundleError> {
    let name = archive.display().to_string();
    let malformed = |why: &str| BundleError::malformed(&name, why);
    let mut file = File::open(archive).map_err(BundleError::io(archive))?;
    let length = file.metadata().map_err(BundleError::io(archive))?.len();
    let mut files = BTreeMap::new();
    let (mut offset, mut total) = (0_u64, 0_u64);
    loop {
        let mut block = [0; BLOCK];
        file.read_exact(&mut block)
            .map_err(|_| malformed("the archive is cut short"))?;
        offset += BLOCK as u64;
        if block == [0; BLOCK] {
            let mut rest = Vec::new();
            file.take(2 * BLOCK as u64)
                .read_to_end(&mut rest)
                .map_err(BundleError::io(archive))?;
            if rest != [0; BLOCK] {
                return Err(malformed("something follows the end of the archive"));
            }
            return Ok(files);
        }
        let (path, size) = parse_header(&block).ok_or_else(|| malformed("unreadable header"))?;
        // One header for one file: what any tar would add to it (owner, time, mode, links) has no place here.
        if header(&path, size)? != block {
            return Err(malformed("a header is not the canonical one"));
        }
        check_path(&path)?;
        check_limits(limits, &path, size, files.len(), &mut total)?;
        if files
            .last_key_value()
            .is_some_and(|(last, _)| *last >= path)
        {
            return Err(malformed("the files are not in ascending order"));
        }
        let end = offset
            .checked_add(size)
            .and_then(|end| end.checked_add(padding(size) as u64))
            .filter(|end| *end <= length)
            .ok_or_else(|| malformed("a file is cut short"))?;
        files.insert(path, (offset, size));
        file.seek(SeekFrom::Start(end))
            .map_err(BundleError::io(archive))?;
        offset = end;
    }
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

/// The one header of a file.
fn header(path: &str, size: u64) -> Result<[u8; BLOCK], BundleError> {
    if path.len() > NAME_BYTES_MAX {
        return Err(BundleError::Path(
            path.to_owned(),
            "it is too long for an archive",
        ));
    }
    if size >= 1 << 33 {
        return Err(BundleError::TooLarge {
            path: path.to_owned(),
            size,
            limit: (1 << 33) - 1,
        });
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = block.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(place) = block.get_mut(148..156) {
        place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    Ok(block)
}

fn parse_header(block: &[u8; BLOCK]) -> Option<(String, u64)> {
    let name = block.get(..NAME_BYTES_MAX)?;
    let name = name.split(|byte| *byte == 0).next()?;
    let path = std::str::from_utf8(name).ok()?;
    let size = std::str::from_utf8(block.get(124..135)?).ok()?;
    Some((path.to_owned(), u64::from_str_radix(size, 8).ok()?))
}
