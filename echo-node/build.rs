//! Tells the linker that the symbols of N-API are in the program that loads the addon.

fn main() {
    napi_build::setup();
}
