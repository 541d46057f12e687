//! Makes a new migration file rebuild the crate: `sqlx::migrate!` alone does not see it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
