//! Prints the SIMD level of this CPU: `cargo run -p netweight-simd --example level`.

fn main() {
    println!("SIMD level: {}", simd::Level::detected());
}
