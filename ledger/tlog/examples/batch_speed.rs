//! How fast records' signatures are judged, singly and in batches: `cargo run --release -p counterfoil-tlog --example batch_speed`.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::hint::black_box;
use std::time::Instant;

use counterfoil_tlog::hash::leaf_hash;
use counterfoil_tlog::merkle::MerkleTree;
use counterfoil_tlog::signature::{PublicKey, RecordSigner, SignedMessage, verify_batch};
use counterfoil_tlog::sorted_set::SortedSet;

const MESSAGE_BYTES: usize = 600;
const ROUNDS: usize = 9;

fn main() {
    for keys in [1_u32, 20, 200, 1024] {
        for size in [64, 256, 1024, 4096] {
            batch(keys, size);
        }
    }
    single();
    batch_with_one_bad();
    trees();
}

fn seed(number: u32) -> [u8; 32] {
    leaf_hash(&number.to_be_bytes()).0
}

struct Signed {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn signed(keys: u32, size: u32) -> Vec<Signed> {
    let signers: Vec<RecordSigner> = (0..keys)
        .map(|key| RecordSigner::from_seed(&seed(key)))
        .collect();
    let sign = |(number, signer): (u32, &RecordSigner)| {
        let mut message = vec![0; MESSAGE_BYTES];
        message
            .iter_mut()
            .zip(number.to_be_bytes())
            .for_each(|(byte, digit)| *byte = digit);
        Signed {
            key: signer.public_key(),
            signature: signer.sign(&message),
            message,
        }
    };
    (0..size).zip(signers.iter().cycle()).map(sign).collect()
}

fn borrowed(all: &[Signed]) -> Vec<SignedMessage<'_>> {
    all.iter()
        .map(|one| (&one.key, one.message.as_slice(), one.signature.as_slice()))
        .collect()
}

/// The median time of some rounds, in seconds.
fn median_s(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times.into_iter().nth(ROUNDS / 2).unwrap_or_default()
}

fn batch(keys: u32, size: u32) {
    let all = signed(keys, size);
    let items = borrowed(&all);
    let time = median_s(|| assert_eq!(black_box(verify_batch(&items)), Ok(())));
    println!(
        "batch of {size:>4}, {keys:>4} keys: {:>8.0} signatures/s",
        f64::from(size) / time
    );
}

fn single() {
    let all = signed(1, 1024);
    let Some(Ok(key)) = all.first().map(|one| PublicKey::parse(&one.key)) else {
        return;
    };
    let time = median_s(|| {
        assert!(
            all.iter()
                .all(|one| key.verify(&one.message, &one.signature).is_ok())
        );
    });
    println!(
        "one by one, parsed key: {:>8.0} signatures/s",
        1024.0 / time
    );
}

fn batch_with_one_bad() {
    let mut all = signed(20, 1024);
    if let Some(one) = all.get_mut(700) {
        one.message.push(0);
    }
    let items = borrowed(&all);
    let time = median_s(|| assert_eq!(black_box(verify_batch(&items)), Err(vec![700])));
    println!(
        "batch of 1024, one of them bad: {:>8.0} signatures/s",
        1024.0 / time
    );
}

fn trees() {
    let leaves: Vec<_> = (0..1_000_000_u32)
        .map(|n| leaf_hash(&n.to_be_bytes()))
        .collect();
    let time = median_s(|| {
        black_box(MerkleTree::from_leaves(leaves.clone()).root());
    });
    println!("tree over 1,000,000 leaf hashes: {time:.3} s");
    let blob: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|n| [n.to_be_bytes().as_slice(), &[0; 60]].concat())
        .collect();
    let start = Instant::now();
    let Ok(set) = SortedSet::from_leaves(blob, 32, 64) else {
        return;
    };
    println!(
        "sorted set of 1,000,000 leaves of 64 bytes: {:.3} s",
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let proved = (0..100_000_u32).filter(|n| {
        let key = [n.to_be_bytes().as_slice(), &[1; 28]].concat();
        set.prove(&key).is_ok()
    });
    let count = proved.count();
    println!(
        "{count} proofs of absence from it: {:.3} s",
        start.elapsed().as_secs_f64()
    );
}
