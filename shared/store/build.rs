//! The migrations are part of this crate: a new file among them makes it anew.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
