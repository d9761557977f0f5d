// Kernels of one pixel, which are products of matrices: pixels by channels.
//
// A tile of ROWS by COLUMNS sums stays in vector registers. What it reads is copied beforehand into panels, in the
// order in which it is read (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"): pixels
// with a power of two of channels would meet in few lines of the cache.

#pragma once

namespace product {

using L = Lanes<LANES>;
constexpr int ROWS = LANES == 16 ? 8 : 6;  // divides most networks' channels; AVX2 has 16 registers
constexpr int COLUMNS = 2 * LANES;
constexpr int64_t CACHED = 64 << 10;  // floats of a task's pixels, which stay in the second-level cache
constexpr int64_t PIXELS = 256;       // that a gradient's tile sums over before the next one has its turn
constexpr int64_t FEWEST = 64;        // channels: with fewer, the copies cost more than they save
constexpr int64_t BLOCK_ROWS = 192, BLOCK_COLUMNS = 256;  // of the gradient, in a task

// Whether the channels are many, and there is one pixel under the kernel for every result, or none for those between
// a dilated input's.
inline bool is_product(const Convolution& c) {
  for (const Axis& axis : {c.height, c.width})
    if (axis.taps != 1 || axis.low || (axis.stride > 1 && axis.input_dilation > 1)) return false;
  return c.groups == 1 && !c.padded() && std::min(c.c_in, c.c_out) >= FEWEST;
}

// The pixels that are multiplied, in order, and the results.
struct Pixels {
  const Convolution& c;
  int64_t across, down, all;

  explicit Pixels(const Convolution& c)
      : c(c), across(c.width.results(0)), down(c.height.results(0)), all(c.batch * down * across) {}
  int64_t place(int64_t pixel, int64_t height, int64_t width, int64_t step_y, int64_t step_x) const {
    int64_t x = pixel % across, y = pixel / across % down, image = pixel / across / down;
    return (image * height + y * step_y) * width + x * step_x;
  }
  int64_t input(int64_t pixel) const {
    return place(pixel, c.height.input, c.width.input, c.height.step, c.width.step) * c.c_in;
  }
  int64_t result(int64_t pixel) const {
    return place(pixel, c.height.output, c.width.output, c.height.phases, c.width.phases) * c.c_out;
  }
};

// Sums over `depth` of a [depth, ROWS] times b [depth, COLUMNS], into `rows`; added to what is there, or in its place.
template <bool adds>
void tile(const float* a, const float* b, int64_t depth, float* const* rows) {
  L::Vector sums[ROWS][2] = {};
  for (int64_t k = 0; k < depth; ++k, a += ROWS, b += COLUMNS) {
    L::Vector left = L::load(b), right = L::load(b + LANES);
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r) {
      sums[r][0] += a[r] * left;
      sums[r][1] += a[r] * right;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      float* to = rows[r] + v * LANES;
      L::store(to, adds ? L::load(to) + sums[r][v] : sums[r][v]);
    }
}

// The same where the tile reaches over the edge: `count` rows of `width` are there.
template <bool adds>
void tile_at_edge(const float* a, const float* b, int64_t depth, float* const* rows, int64_t count, int64_t width) {
  if (count == ROWS && width == COLUMNS) return tile<adds>(a, b, depth, rows);
  float whole[ROWS][COLUMNS] = {};
  float* to[ROWS];
  for (int r = 0; r < ROWS; ++r) to[r] = whole[r];
  tile<false>(a, b, depth, to);
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < width; ++i) rows[r][i] = (adds ? rows[r][i] : 0.f) + whole[r][i];
}

// A panel [depth, ROWS] of `count` rows of `depth` floats; zeros for the rows that it lacks.
inline void turn(const float* const* rows, int64_t count, int64_t depth, float* to) {
  constexpr int SIDE = ROWS % 4 ? 2 : 4;
  typedef float Line __attribute__((vector_size(4 * SIDE), aligned(4)));
  int64_t whole = count == ROWS ? depth / SIDE * SIDE : 0;
  for (int64_t k = 0; k < whole; k += SIDE)
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r += SIDE) {
      Line square[SIDE];
#pragma GCC unroll 4
      for (int j = 0; j < SIDE; ++j)
#pragma GCC unroll 4
        for (int i = 0; i < SIDE; ++i) square[j][i] = rows[r + i][k + j];
#pragma GCC unroll 4
      for (int j = 0; j < SIDE; ++j) *reinterpret_cast<Line*>(to + (k + j) * ROWS + r) = square[j];
    }
  for (int64_t k = whole; k < depth; ++k)
    for (int r = 0; r < ROWS; ++r) to[k * ROWS + r] = r < count ? rows[r][k] : 0;
}

inline void convolve(ffi::ThreadPool& pool, const Convolution& c, const float* images, Kernel kernel, float* results) {
  Pixels pixels(c);
  int64_t panels = ceil_div(c.c_out, COLUMNS), threads = std::max<int64_t>(1, pool.num_threads());
  std::vector<float> weights(panels * c.c_in * COLUMNS);
  parallel(pool, panels * ceil_div(c.c_in, LINE), weights.size(), [&](int64_t i) {
    int64_t panel = i % panels, row = i / panels * LINE, first = panel * COLUMNS;
    float* to = &weights[(panel * c.c_in + row) * COLUMNS];
    kernel.read(c, 0, 0, row, std::min(LINE, c.c_in - row), first, std::min<int64_t>(COLUMNS, c.c_out - first),
                [=](int64_t i, int64_t channel, float weight) { to[i * COLUMNS + channel] = weight; });
  });
  if (c.height.phases * c.width.phases > 1)
    parallel(pool, c.batch, c.batch * c.result(),
             [&](int64_t image) { std::fill_n(results + image * c.result(), c.result(), 0.f); });
  int64_t tiles = ceil_div(pixels.all, ROWS), most = std::max<int64_t>(1, CACHED / (c.c_in * ROWS));
  int64_t tasks = ceil_div(ceil_div(tiles, most), threads) * threads;
  parallel(pool, tasks, c.batch * c.result(), [&](int64_t task) {
    static thread_local std::vector<float> turned;
    int64_t begin = tiles * task / tasks, end = tiles * (task + 1) / tasks;
    turned.resize((end - begin) * ROWS * c.c_in);
    for (int64_t i = begin; i < end; ++i) {
      const float* rows[ROWS];
      int64_t count = std::min<int64_t>(ROWS, pixels.all - i * ROWS);
      for (int64_t r = 0; r < count; ++r) rows[r] = images + pixels.input(i * ROWS + r);
      turn(rows, count, c.c_in, &turned[(i - begin) * ROWS * c.c_in]);
    }
    for (int64_t panel = 0; panel < panels; ++panel) {
      int64_t first = panel * COLUMNS, width = std::min<int64_t>(COLUMNS, c.c_out - first);
      for (int64_t i = begin; i < end; ++i) {
        float* rows[ROWS];
        int64_t count = std::min<int64_t>(ROWS, pixels.all - i * ROWS);
        for (int64_t r = 0; r < count; ++r) rows[r] = results + pixels.result(i * ROWS + r) + first;
        tile_at_edge<false>(&turned[(i - begin) * ROWS * c.c_in], &weights[panel * c.c_in * COLUMNS], c.c_in, rows, count, width);
      }
    }
  });
}

// The channels first ... first + count - 1 of some pixels, in panels [pixel, width]; zeros for those the last one lacks.
template <int width>
void gather(const float* from, const int64_t* places, int64_t pixels, int64_t first, int64_t count, float* to) {
  for (int64_t channel = 0; channel < count; channel += width) {
    int64_t some = std::min<int64_t>(width, count - channel);
    for (int64_t p = 0; p < pixels; ++p, to += width) {
      const float* own = from + places[p] + first + channel;
      if (some == width) {
        std::memcpy(to, own, width * sizeof(float));
      } else {
        std::memcpy(to, own, some * sizeof(float));
        std::fill(to + some, to + width, 0.f);
      }
    }
  }
}

inline void kernel_gradient(ffi::ThreadPool& pool, const Convolution& c, const float* images, const float* upstream,
                            float* gradient) {
  Pixels pixels(c);
  int64_t threads = std::max<int64_t>(1, pool.num_threads()), size = c.c_in * c.c_out;
  int64_t across = ceil_div(c.c_out, BLOCK_COLUMNS), down = ceil_div(c.c_in, BLOCK_ROWS), blocks = across * down;
  // Where blocks are few, the pixels are in parts, with sums of their own, which are added in order.
  int64_t parts = blocks >= 4 * threads ? 1 : threads / std::gcd(blocks, threads);
  parts = std::clamp<int64_t>(parts, 1, ceil_div(pixels.all, PIXELS));
  std::vector<float> others((parts - 1) * size);
  int64_t row_panels = ceil_div(c.c_in, ROWS), column_panels = ceil_div(c.c_out, COLUMNS);
  parallel(pool, parts * blocks, c.batch * c.result(), [&](int64_t task) {
    static thread_local std::vector<float> a, b;
    static thread_local std::vector<int64_t> inputs, outputs;
    int64_t part = task / blocks, block = task % blocks;
    int64_t top = row_panels * (block / across) / down * ROWS;
    int64_t bottom = std::min(c.c_in, row_panels * (block / across + 1) / down * ROWS);
    int64_t left = column_panels * (block % across) / across * COLUMNS;
    int64_t right = std::min(c.c_out, column_panels * (block % across + 1) / across * COLUMNS);
    float* sums = part ? &others[(part - 1) * size] : gradient;
    int64_t last = pixels.all * (part + 1) / parts, begin = pixels.all * part / parts;
    for (int64_t first = begin; first < last; first += PIXELS) {
      int64_t count = std::min(PIXELS, last - first);
      inputs.resize(count), outputs.resize(count);
      for (int64_t p = 0; p < count; ++p) inputs[p] = pixels.input(first + p), outputs[p] = pixels.result(first + p);
      a.resize(ceil_div(bottom - top, ROWS) * ROWS * count);
      b.resize(ceil_div(right - left, COLUMNS) * COLUMNS * count);
      gather<ROWS>(images, inputs.data(), count, top, bottom - top, a.data());
      gather<COLUMNS>(upstream, outputs.data(), count, left, right - left, b.data());
      for (int64_t column = left; column < right; column += COLUMNS)
        for (int64_t row = top; row < bottom; row += ROWS) {
          float* rows[ROWS];
          for (int64_t r = 0; r < ROWS; ++r) rows[r] = sums + (row + r) * c.c_out + column;
          auto some = first == begin ? tile_at_edge<false> : tile_at_edge<true>;
          some(&a[(row - top) * count], &b[(column - left) * count], count, rows, std::min<int64_t>(ROWS, bottom - row),
               std::min<int64_t>(COLUMNS, right - column));
        }
    }
  });
  if (parts > 1)
    parallel(pool, ceil_div(size, SMALL), size, [&](int64_t piece) {
      for (int64_t i = piece * SMALL; i < std::min(size, (piece + 1) * SMALL); ++i)
        for (int64_t part = 0; part + 1 < parts; ++part) gradient[i] += others[part * size + i];
    });
}

}  // namespace product
