#pragma once

// Where the tiles of kernels/attention_sm80_kernel.cuh lie and which lane of a warp holds what of
// them, as plain functions: the host checks them against the PTX ISA
// (tests/kernels/attention_sm80_layout_test.cc), the kernel only calls them.

#ifdef __CUDACC__
#define WINNOW_HOST_DEVICE __host__ __device__
#else
#define WINNOW_HOST_DEVICE
#endif

namespace winnow::sm80 {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kKeys = 64;        // per tile of K and V
constexpr int kPieceBytes = 16;  // what a cp.async copies, and a row of an 8x8 matrix
constexpr int kPieceSize = 8;    // elements of it

// ---- A tile [rows][kD] of bf16 in shared memory ----
//
// Rows are dense, in pieces of 16 bytes; the banks are 8 columns of 16 bytes. ldmatrix reads the
// same piece of 8 consecutive rows at once, so those must lie in 8 different columns. With kRun the
// largest power of two that divides the pieces of a row (at most 8), 8 rows begin in 8/kRun
// different columns, which are multiples of kRun; exchanging pieces within runs of kRun, by XOR
// with row/(8/kRun) mod kRun, makes the rest differ.

template <int kD>
constexpr int kPieces = kD / kPieceSize;  // of a row
template <int kD>
constexpr int kRowBytes = kD * 2;
template <int kD>
constexpr int kRun = kPieces<kD> % 8 == 0   ? 8
                     : kPieces<kD> % 4 == 0 ? 4
                                            : 2;

// Byte where a piece of a row begins. Tiles begin at multiples of 128 bytes.
template <int kD>
WINNOW_HOST_DEVICE constexpr int PieceOffset(int row, int piece) {
  const int exchange = row / (8 / kRun<kD>) % kRun<kD>;
  return row * kRowBytes<kD> + (piece ^ exchange) * kPieceBytes;
}

// From the address of piece 0 or 1 of a row to that of the piece `even` further: one XOR with a
// constant where PieceOffset would take several operations.
template <int kD>
WINNOW_HOST_DEVICE constexpr unsigned Further(unsigned address, int even) {
  const unsigned within = even % kRun<kD> * kPieceBytes;
  const unsigned runs = even / kRun<kD> * kRun<kD> * kPieceBytes;
  return (address ^ within) + runs;
}

// ---- Copies into a tile ----
//
// kRun threads take a row, one run of pieces after another, and the block kCopyRows rows at once.
// That is a multiple of 8, so a thread's pieces are exchanged alike in all of its rows.

template <int kD>
constexpr int kCopyRows = kThreads / kRun<kD>;
template <int kD>
WINNOW_HOST_DEVICE constexpr int CopyRow(int thread) {
  return thread / kRun<kD>;
}
template <int kD>
WINNOW_HOST_DEVICE constexpr int CopyPiece(int thread) {
  return thread % kRun<kD>;
}

// ---- Operands of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16") by ldmatrix.x4 ----
//
// Row and piece, from the corner of a block [16][16], of the address that a lane gives.

// Of Q, rows × dims, as left operand; and of V, keys × dims, transposed on the way, as right
// operand of two products: registers 0 and 1 for dims 0–7, 2 and 3 for dims 8–15.
WINNOW_HOST_DEVICE constexpr int RowOfLeft(int lane) { return lane % 16; }
WINNOW_HOST_DEVICE constexpr int PieceOfLeft(int lane) { return lane / 16; }

// Of K, keys × dims, as right operand of two products: registers 0 and 1 for keys 0–7, 2 and 3 for
// keys 8–15.
WINNOW_HOST_DEVICE constexpr int RowOfRight(int lane) { return lane / 16 * 8 + lane % 8; }
WINNOW_HOST_DEVICE constexpr int PieceOfRight(int lane) { return lane / 8 % 2; }

// Element i of 4 of an accumulator [16][8]. Two side by side, rounded in the pairs (0, 1), (2, 3)
// of the left one and then of the right one, are a left operand [16][16].
WINNOW_HOST_DEVICE constexpr int AccumulatorRow(int lane, int i) { return lane / 4 + i / 2 * 8; }
WINNOW_HOST_DEVICE constexpr int AccumulatorColumn(int lane, int i) { return lane % 4 * 2 + i % 2; }

// ---- What a block computes ----
//
// Sections of heads one after another, within a section longest rows first, so that the blocks that
// end the launch are short.
struct BlockPlace {
  int row_tile, head_tile;
};
WINNOW_HOST_DEVICE constexpr BlockPlace PlaceOfBlock(int block, int row_tiles, int head_tiles,
                                                     int section_heads) {
  const int first_head = block / (section_heads * row_tiles) * section_heads;
  const int left = head_tiles - first_head;
  const int heads = left < section_heads ? left : section_heads;
  const int i = block - first_head * row_tiles;
  return {row_tiles - 1 - i / heads, first_head + i % heads};
}

// ---- Shared memory of a block ----
//
// K [64][kD], V [64][kD] and, for 128 query rows, Q [128][kD]; 64 query rows pass through V's place
// before V does. The outputs leave through Q's place.
WINNOW_HOST_DEVICE constexpr int SharedBytes(int head_dim, int block_rows) {
  return (2 * kKeys + (block_rows > kKeys ? block_rows : 0)) * head_dim * 2;
}

}  // namespace winnow::sm80
