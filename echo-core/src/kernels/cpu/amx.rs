//! AMX, the matrix unit of Intel's servers since 2023 (Sapphire Rapids).
//!
//! The unit has eight registers of 16 rows of 64 bytes. One instruction multiplies 16 rows of 16
//! activation lanes with 16 lanes of weights for 16 outputs: eight times as many int8 a second as
//! AVX-512 (Emerald Rapids, `cargo bench`). Panels need no other layout for it: 16 outputs of 16 lanes
//! that follow each other are a register of weights, rows of lanes are rows of a register. Whatever is
//! no product (norms, GELU, softmax, lanes left over) stays with AVX-512.
//!
//! The compiler knows no types for these registers in stable Rust, so a whole product of a block is one
//! piece of assembly, and nothing but the registers' sizes lasts from one to the next. Linux lends the
//! unit on request; other systems are not asked.

#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every unsafe function is one piece of assembly or passes its caller's promise on"
)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::avx512;
use super::buffer::Target;
use super::gemm::{Ahead, Gemm, Operand, gemm};
use super::isa::{Kernels, code_kernels, format_kernels};
use super::lane::Unit;
use super::lanes_avx512::{Bf16, Vnni};
use super::lanes_int8::Int8;
use crate::device::ComputeType;

/// Rows of a register.
const ROWS: usize = 16;
/// Rows that a thread takes at once. The unit multiplies faster than weights come, so a block is high;
/// what a layer makes of it just fits the second-level cache, 2 MiB wherever there is the unit. By 64
/// rows a layer takes a sixth longer.
const BLOCK_ROWS: usize = 192;
/// Outputs of a panel: four registers side by side, two if it is narrow.
const WIDTH: usize = 64;
const NARROW_WIDTH: usize = 32;

/// What a piece of assembly works on: up to 32 rows in two registers, or up to 16 in one.
struct Block {
    /// The first row of activations of either register, in lanes.
    inputs: [*const u8; 2],
    stride_bytes: usize,
    weights: *const u8,
    /// Lanes over 16, not zero.
    steps: usize,
    /// Where the first row of sums of either register goes, rows of a panel's outputs.
    sums: [*mut f32; 2],
    /// What is fetched into the cache meanwhile, so many lines with each step, not zero.
    ahead: *const u8,
    ahead_lines: usize,
}

/// Sets the registers' sizes for blocks of so many rows: at most 32 in two registers if they are tall,
/// else at most 16 in one.
fn configure(rows: usize, is_tall: bool) {
    let (first, second) = if is_tall { halves(rows) } else { (rows, rows) };
    // The first five and, in tall blocks, the sixth are as high as the block, the others hold weights.
    let sixth = if is_tall { second } else { ROWS };
    let heights = [first, first, second, second, first, sixth, ROWS, ROWS];
    let mut sizes = [0u8; 64];
    sizes[0] = 1; // the only layout there is
    for (register, height) in heights.into_iter().enumerate() {
        sizes[16 + 2 * register] = 64; // bytes of a row
        sizes[48 + register] = height as u8;
    }
    // SAFETY: 64 bytes as the instruction wants them; only registers that the compiler never uses change.
    unsafe {
        asm!("ldtilecfg [{sizes}]", sizes = in(reg) sizes.as_ptr(), options(nostack, readonly))
    }
}

/// Rows of both registers of a tall block; a single row is in both.
fn halves(rows: usize) -> (usize, usize) {
    (rows.div_ceil(2), (rows / 2).max(1))
}

/// Makes a unit `$name` that multiplies with the instruction `$dot` what has more than `$few_rows`.
macro_rules! unit {
    ($(#[$docs:meta])* $name:ident, $dot:literal, $depth:literal, $few_rows:literal) => {
        $(#[$docs])*
        #[derive(Default)]
        pub(super) struct $name {
            /// Rows of a block that registers are set for; zero before the first.
            rows: usize,
        }

        impl $name {
            /// Sums of two registers of rows with the first 32 of a panel's `PANEL` outputs. The weights
            /// of the next step are fetched into the nearest cache meanwhile: where another thread keeps
            /// the core's other half busy, that saves a fifth of the time.
            ///
            /// # Safety
            /// The unit is there and set for the rows; addresses are valid for what they say.
            unsafe fn tall<const PANEL: usize>(block: &Block) {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm6, [{weights} + {row}*1]",
                    "tileloadd tmm4, [{first} + {stride}*1]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm5, [{second} + {stride}*1]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    "tileloadd tmm7, [{weights} + {row}*1 + 64]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    ".irp lane, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                    "prefetcht0 [{weights} + {step} + {lane_bytes} * \\lane]",
                    "prefetcht0 [{weights} + {step} + {lane_bytes} * \\lane + 64]",
                    ".endr",
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "mov {line}, {lines}",
                    "3:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {line}",
                    "jnz 3b",
                    "add {first}, 64",
                    "add {second}, 64",
                    "add {weights}, {step}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{above} + {row}*1], tmm0",
                    "tilestored [{above} + {row}*1 + 64], tmm1",
                    "tilestored [{below} + {row}*1], tmm2",
                    "tilestored [{below} + {row}*1 + 64], tmm3",
                    weights = inout(reg) block.weights => _,
                    row = in(reg) 4 * PANEL,
                    lane_bytes = const 4 * PANEL,
                    step = const 4 * PANEL * ROWS,
                    first = inout(reg) block.inputs[0] => _,
                    second = inout(reg) block.inputs[1] => _,
                    stride = in(reg) block.stride_bytes,
                    steps = inout(reg) block.steps => _,
                    above = in(reg) block.sums[0],
                    below = in(reg) block.sums[1],
                    ahead = inout(reg) block.ahead => _,
                    lines = in(reg) block.ahead_lines,
                    line = out(reg) _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }

            /// Sums of one register of rows with all of a wide panel's outputs.
            ///
            /// # Safety
            /// As for [`tall`](Self::tall).
            unsafe fn flat(block: &Block) {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{first} + {stride}*1]",
                    "tileloadd tmm5, [{weights} + {row}*1]",
                    concat!($dot, " tmm0, tmm4, tmm5"),
                    "tileloadd tmm6, [{weights} + {row}*1 + 64]",
                    concat!($dot, " tmm1, tmm4, tmm6"),
                    "tileloadd tmm7, [{weights} + {row}*1 + 128]",
                    concat!($dot, " tmm2, tmm4, tmm7"),
                    "tileloadd tmm5, [{weights} + {row}*1 + 192]",
                    concat!($dot, " tmm3, tmm4, tmm5"),
                    "mov {line}, {lines}",
                    "3:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {line}",
                    "jnz 3b",
                    "add {first}, 64",
                    "add {weights}, {step}",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{above} + {row}*1], tmm0",
                    "tilestored [{above} + {row}*1 + 64], tmm1",
                    "tilestored [{above} + {row}*1 + 128], tmm2",
                    "tilestored [{above} + {row}*1 + 192], tmm3",
                    weights = inout(reg) block.weights => _,
                    row = in(reg) 4 * WIDTH,
                    step = const 4 * WIDTH * ROWS,
                    first = inout(reg) block.inputs[0] => _,
                    stride = in(reg) block.stride_bytes,
                    steps = inout(reg) block.steps => _,
                    above = in(reg) block.sums[0],
                    ahead = inout(reg) block.ahead => _,
                    lines = in(reg) block.ahead_lines,
                    line = out(reg) _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }

        impl Unit for $name {
            const LANES: usize = 16;
            const FEW_ROWS: usize = $few_rows;
            const BLOCK_ROWS: usize = BLOCK_ROWS;
            /// Two registers, nearly, and a fiftieth of a window.
            const BLOCK_QUERIES: usize = 30;

            unsafe fn multiply(
                &mut self,
                input: Operand,
                rows: usize,
                weights: *const u8,
                lanes: usize,
                sums: Target,
                ahead: Ahead,
            ) {
                debug_assert!(matches!(sums.stride, WIDTH | NARROW_WIDTH), "sums of a panel");
                // Blocks of the same height; the last one may repeat rows of the one before.
                let blocks = rows.div_ceil(2 * ROWS);
                let height = rows.div_ceil(blocks);
                let is_wide = sums.stride == WIDTH;
                let is_tall = height > ROWS || !is_wide;
                if self.rows != height {
                    configure(height, is_tall);
                    self.rows = height;
                }
                let steps = lanes / Self::LANES;
                let sides = if is_tall { sums.stride / NARROW_WIDTH } else { 1 };
                // With nothing to come, few rows still wait for their own weights.
                let (mut next, lines) = match ahead.bytes {
                    0 if is_tall => (weights, 1),
                    0 => (weights.wrapping_add(8 * ROWS * WIDTH), 4 * ROWS * WIDTH / 64),
                    bytes => (ahead.data, bytes.div_ceil(64 * steps * sides * blocks)),
                };
                for side in 0..sides {
                    for block in 0..blocks {
                        let first = (block * height).min(rows - height);
                        let second = first + height - halves(height).1;
                        let block = Block {
                            inputs: [
                                input.data.wrapping_add(first * input.stride_bytes),
                                input.data.wrapping_add(second * input.stride_bytes),
                            ],
                            stride_bytes: input.stride_bytes,
                            weights: weights.wrapping_add(side * 4 * NARROW_WIDTH),
                            steps,
                            sums: [
                                sums.at(first, side * NARROW_WIDTH).data,
                                sums.at(second, side * NARROW_WIDTH).data,
                            ],
                            ahead: next,
                            ahead_lines: lines,
                        };
                        // Rows of both registers lie within `rows`.
                        match (is_tall, is_wide) {
                            (true, true) => Self::tall::<WIDTH>(&block),
                            (true, false) => Self::tall::<NARROW_WIDTH>(&block),
                            (false, _) => Self::flat(&block),
                        }
                        next = next.wrapping_add(64 * lines * steps);
                    }
                }
            }

            #[cfg(feature = "bench")]
            unsafe fn peak(rounds: usize) -> usize {
                configure(2 * ROWS, true);
                // Numbers near one, in either format: products of zeros take less power than a loaded
                // machine has to give, and are twice as fast there.
                let mut memory = [0u8; 64 * ROWS];
                for (at, byte) in memory.iter_mut().enumerate() {
                    *byte = if at % 2 == 0 { (at * 89 % 251) as u8 } else { 0x3f };
                }
                asm!(
                    "tileloadd tmm4, [{memory} + {row}*1]",
                    "tileloadd tmm5, [{memory} + {row}*1]",
                    "tileloadd tmm6, [{memory} + {row}*1]",
                    "tileloadd tmm7, [{memory} + {row}*1]",
                    "2:",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "dec {rounds}",
                    "jnz 2b",
                    "tilerelease",
                    rounds = inout(reg) rounds => _,
                    memory = in(reg) memory.as_ptr(),
                    row = in(reg) 64usize,
                    options(nostack, readonly),
                );
                rounds * 4 * 2 * ROWS * ROWS * ROWS * $depth
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                if self.rows > 0 {
                    // SAFETY: the unit is there, as it was set. Released, it costs no context switch anything.
                    unsafe { asm!("tilerelease", options(nostack, nomem)) }
                }
            }
        }
    };
}

unit!(
    /// bf16 in pairs, summed as f32: never left to vectors, which on these processors take longer than their
    /// weights do to come.
    PairsOfBf16,
    "tdpbf16ps",
    2,
    0
);
unit!(
    /// Unsigned activations times signed weights in fours, summed as i32.
    FoursOfInt8,
    "tdpbusd",
    4,
    5
);

unit!(
    /// Signed queries times unsigned keys.
    KeysOfInt8,
    "tdpbsud",
    4,
    5
);

const VECTORS: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn gemm_bf16_narrow(job: &Gemm<'_>) {
    gemm::<Bf16<PairsOfBf16>, { VECTORS / 2 }>(job);
}

format_kernels!(
    in_bf16,
    Bf16<PairsOfBf16>,
    VECTORS,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"
);
format_kernels!(
    in_int8,
    Int8<Vnni, FoursOfInt8>,
    VECTORS,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"
);
code_kernels!(
    in_codes,
    Vnni<true>,
    Vnni,
    (KeysOfInt8, FoursOfInt8),
    VECTORS,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"
);

/// The kernels, if this machine has the unit and the system lends it.
pub(super) fn kernels() -> Option<Kernels> {
    let rest = avx512::kernels()?;
    // The formats' other instructions came to processors before the unit.
    let has_others = rest.bf16.is_some() && rest.int8.is_some();
    (has_others && is_lent()).then_some(Kernels {
        name: "amx",
        fastest: ComputeType::Bf16,
        block_rows: BLOCK_ROWS,
        tile_rows: 2 * ROWS,
        bf16: Some(in_bf16::TABLE),
        int8: Some(in_int8::TABLE),
        codes: Some(in_codes::TABLE),
        gemm_bf16_narrow: Some(gemm_bf16_narrow),
        ..rest
    })
}

/// Whether the processor has the unit, with both formats, and the system lends it to this process.
fn is_lent() -> bool {
    static IS_LENT: OnceLock<bool> = OnceLock::new();
    *IS_LENT.get_or_init(|| {
        const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        let has_unit = __cpuid_count(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8;
        has_unit && ask()
    })
}

/// Asks the system for the unit's registers, for all threads of this process.
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const REQUEST_PERMISSION: libc::c_long = 0x1023;
    const REGISTERS: libc::c_long = 18;
    // SAFETY: the call takes numbers only; kernels that do not know it refuse.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, REGISTERS) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}
