// Convolutions of many channels as products of matrices, pixels by channels: one for each tap of the kernel.
//
// A tile of ROWS by COLUMNS sums stays in vector registers. What it reads is copied beforehand into panels, in the
// order in which it is read (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"): pixels
// with a power of two of channels would meet in few lines of the cache.

#pragma once

namespace product {

using L = Lanes<LANES>;
constexpr int ROWS = LANES == 16 ? 8 : 6;  // divides most networks' channels; AVX2 has 16 registers
constexpr int COLUMNS = 2 * LANES;
constexpr int64_t FEWEST = 64;        // channels: with fewer, the copies cost more than they save
constexpr int64_t CACHED = 64 << 10;  // floats of a task's pixels, which stay in the second-level cache
constexpr int64_t PIXELS = 256;       // that a gradient's tile sums over before the next one has its turn
constexpr int64_t BLOCK_ROWS = 192, BLOCK_COLUMNS = 256;  // of the gradient, in a task

inline bool is_product(const Convolution& c) { return c.groups == 1 && std::min(c.c_in, c.c_out) >= FEWEST; }

// The results of one phase, in order, and the taps that they meet.
struct Phase {
  struct Tap {
    int64_t number, y, x;  // where it meets the input for the first result
  };
  const Convolution& c;
  int64_t y, x, down, across, all;
  std::vector<Tap> taps;
  bool first_meets_all = false;  // whether every result meets the first tap inside of the image

  Phase(const Convolution& c, int64_t y, int64_t x)
      : c(c), y(y), x(x), down(c.height.results(y)), across(c.width.results(x)), all(c.batch * down * across) {
    for (int64_t ky = 0; ky < c.height.taps; ++ky)
      for (int64_t kx = 0; kx < c.width.taps; ++kx) {
        int64_t top = c.height.start(y, ky), left = c.width.start(x, kx);
        if (top < 0 || left < 0) continue;
        taps.push_back({ky * c.width.taps + kx, top - c.height.before, left - c.width.before});
        if (!first_meets_all && meets_all(taps.back())) {
          std::swap(taps.front(), taps.back());
          first_meets_all = true;
        }
      }
  }
  bool meets_all(const Tap& tap) const {
    return tap.y >= 0 && (down - 1) * c.height.step + tap.y < c.height.input && tap.x >= 0 &&
           (across - 1) * c.width.step + tap.x < c.width.input;
  }
  // Calls use(result) for `count` results from `first` on.
  template <class Use>
  void each(int64_t first, int64_t count, Use use) const {
    each_place(first, count, [&](int64_t image, int64_t row, int64_t column) { use(result(image, row, column)); });
  }
  // Calls use(pixel, result) for those of them that meet the tap at a pixel of the image: all others meet zeros.
  template <class Use>
  void each(const Tap& tap, int64_t first, int64_t count, Use use) const {
    each_place(first, count, [&](int64_t image, int64_t row, int64_t column) {
      int64_t in_y = row * c.height.step + tap.y, in_x = column * c.width.step + tap.x;
      if (in_y >= 0 && in_y < c.height.input && in_x >= 0 && in_x < c.width.input)
        use((image * c.height.input + in_y) * c.width.input + in_x, result(image, row, column));
    });
  }

 private:
  int64_t result(int64_t image, int64_t row, int64_t column) const {
    return (image * c.height.output + y + row * c.height.phases) * c.width.output + x + column * c.width.phases;
  }
  template <class Use>
  void each_place(int64_t first, int64_t count, Use use) const {
    int64_t column = first % across, row = first / across % down, image = first / across / down;
    for (int64_t i = 0; i < count; ++i) {
      use(image, row, column);
      if (++column == across) {
        column = 0;
        if (++row == down) row = 0, ++image;
      }
    }
  }
};

// Sums over `depth` of a [depth, ROWS] times b [depth, COLUMNS], into each row from `column` on; added to what is
// there, or in its place.
template <bool adds>
void tile(const float* a, const float* b, int64_t depth, float* const* rows, int64_t column) {
  for (int r = 0; r < ROWS; ++r)  // what is written below is in the cache by then
    for (int64_t i = 0; i < COLUMNS; i += LINE) __builtin_prefetch(rows[r] + column + i, 1);
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
      float* to = rows[r] + column + v * LANES;
      L::store(to, adds ? L::load(to) + sums[r][v] : sums[r][v]);
    }
}

// The same where the tile may reach over the edge: `count` rows of `width` are there.
template <bool adds>
void tile_at_edge(const float* a, const float* b, int64_t depth, float* const* rows, int64_t column, int64_t count,
                  int64_t width) {
  if (count == ROWS && width == COLUMNS) return tile<adds>(a, b, depth, rows, column);
  float whole[ROWS][COLUMNS];
  float* to[ROWS];
  for (int r = 0; r < ROWS; ++r) to[r] = whole[r];
  tile<false>(a, b, depth, to, 0);
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < width; ++i) rows[r][column + i] = (adds ? rows[r][column + i] : 0.f) + whole[r][i];
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

// For each tap the kernel in panels of output channels: [tap, panel, c_in, COLUMNS]. It is read in the order in which it
// is stored.
inline std::vector<float> panels_of(ffi::ThreadPool& pool, const Convolution& c, Kernel kernel) {
  int64_t panels = ceil_div(c.c_out, COLUMNS), lines = ceil_div(c.c_in, LINE), taps = c.height.taps * c.width.taps;
  std::vector<float> weights(taps * panels * c.c_in * COLUMNS);
  auto copy = [&](int64_t tap, int64_t panel, int64_t row) {
    int64_t first = panel * COLUMNS;
    float* to = &weights[((tap * panels + panel) * c.c_in + row) * COLUMNS];
    kernel.read(c, tap, 0, row, std::min(LINE, c.c_in - row), first, std::min<int64_t>(COLUMNS, c.c_out - first),
                [=](int64_t i, int64_t channel, float weight) { to[i * COLUMNS + channel] = weight; });
  };
  if (kernel.reversed)
    parallel(pool, taps * panels, weights.size(), [&](int64_t i) {
      for (int64_t line = 0; line < lines; ++line) copy(i / panels, i % panels, line * LINE);
    });
  else
    parallel(pool, taps * lines, weights.size(), [&](int64_t i) {
      for (int64_t panel = 0; panel < panels; ++panel) copy(i / lines, panel, i % lines * LINE);
    });
  return weights;
}

// Brings the pixels of a later task into the cache, some lines at each call.
class Ahead {
 public:
  Ahead(const std::vector<const float*>& pixels, int64_t channels, int64_t calls)
      : pixels(pixels), in_pixel(ceil_div(channels, LINE)), lines(pixels.size() * in_pixel), some(ceil_div(lines, calls)) {}
  void go_on() {
    for (int64_t end = std::min(lines, line + some); line < end; ++line)
      __builtin_prefetch(pixels[line / in_pixel] + line % in_pixel * LINE, 0, 2);
  }

 private:
  const std::vector<const float*>& pixels;
  int64_t in_pixel, lines, some, line = 0;
};

inline void convolve_phase(ffi::ThreadPool& pool, const Phase& phase, const float* images, const float* weights,
                           float* results) {
  const Convolution& c = phase.c;
  int64_t panels = ceil_div(c.c_out, COLUMNS), threads = std::max<int64_t>(1, pool.num_threads());
  int64_t tiles = ceil_div(phase.all, ROWS), most = std::max<int64_t>(1, CACHED / (c.c_in * ROWS));
  int64_t tasks = ceil_div(ceil_div(tiles, most), threads) * threads, panel = c.c_in * ROWS;
  auto begin = [=, &phase](int64_t task) { return std::min(phase.all, tiles * std::min(task, tasks) / tasks * ROWS); };
  parallel(pool, tasks, c.batch * c.result(), [&](int64_t task) {
    static thread_local std::vector<float> turned;
    static thread_local std::vector<const float*> from, next;
    static thread_local std::vector<float*> to;
    auto meet = [&](const Phase::Tap& tap, int64_t task, auto use) {
      phase.each(tap, begin(task), begin(task + 1) - begin(task),
                 [&](int64_t pixel, int64_t result) { use(images + pixel * c.c_in, results + result * c.c_out); });
    };
    if (!phase.first_meets_all)
      phase.each(begin(task), begin(task + 1) - begin(task),
                 [&](int64_t result) { std::fill_n(results + result * c.c_out, c.c_out, 0.f); });
    next.clear();
    if (phase.taps.size() == 1)  // else this task's own pixels come again
      meet(phase.taps[0], task + threads, [&](const float* pixel, float*) { next.push_back(pixel); });
    for (const Phase::Tap& tap : phase.taps) {
      from.clear(), to.clear();
      meet(tap, task, [&](const float* pixel, float* result) { from.push_back(pixel), to.push_back(result); });
      int64_t count = from.size();
      turned.resize(ceil_div(count, ROWS) * panel);
      for (int64_t i = 0; i < count; i += ROWS)
        turn(&from[i], std::min<int64_t>(ROWS, count - i), c.c_in, &turned[i / ROWS * panel]);
      Ahead ahead(next, c.c_in, panels * std::max<int64_t>(1, ceil_div(count, ROWS)));
      auto add = phase.first_meets_all && &tap == &phase.taps[0] ? tile_at_edge<false> : tile_at_edge<true>;
      for (int64_t column = 0; column < c.c_out; column += COLUMNS) {
        const float* b = weights + (tap.number * panels * COLUMNS + column) * c.c_in;
        for (int64_t i = 0; i < count; i += ROWS) {
          ahead.go_on();
          add(&turned[i / ROWS * panel], b, c.c_in, &to[i], column, std::min<int64_t>(ROWS, count - i),
              std::min<int64_t>(COLUMNS, c.c_out - column));
        }
      }
    }
  });
}

inline void convolve(ffi::ThreadPool& pool, const Convolution& c, const float* images, Kernel kernel, float* results) {
  std::vector<float> weights = panels_of(pool, c, kernel);
  for (int64_t y = 0; y < c.height.phases; ++y)
    for (int64_t x = 0; x < c.width.phases; ++x)
      convolve_phase(pool, Phase(c, y, x), images, weights.data(), results);
}

// The channels first ... last - 1 of some pixels, in panels [pixel, width]; zeros for those the last one lacks.
// A few pixels at a time: they are read in order, and written so that few lines of the cache are open.
template <int width>
void gather(const std::vector<const float*>& pixels, int64_t first, int64_t last, std::vector<float>& panels) {
  constexpr int64_t SOME = 8;
  const int64_t all = pixels.size();
  panels.resize(ceil_div(last - first, width) * width * all);
  const float* const* from = pixels.data();
  float* const to = panels.data();
  for (int64_t begin = 0; begin < all; begin += SOME) {
    const int64_t end = std::min(begin + SOME, all);
    for (int64_t channel = first; channel < last; channel += width) {
      const int64_t count = std::min<int64_t>(width, last - channel);
      float* own = to + (channel - first) * all + begin * width;
      for (int64_t p = begin; p < end; ++p, own += width) {
        if (count == width) {
          std::memcpy(own, from[p] + channel, width * sizeof(float));
        } else {
          std::memcpy(own, from[p] + channel, count * sizeof(float));
          std::fill(own + count, own + width, 0.f);
        }
      }
    }
  }
}

inline void kernel_gradient(ffi::ThreadPool& pool, const Convolution& c, const float* images, const float* upstream,
                            float* gradient) {
  Phase phase(c, 0, 0);
  int64_t threads = std::max<int64_t>(1, pool.num_threads()), size = c.rows() * c.c_out;
  int64_t across = ceil_div(c.c_out, BLOCK_COLUMNS), down = ceil_div(c.c_in, BLOCK_ROWS), blocks = across * down;
  int64_t row_panels = ceil_div(c.c_in, ROWS), column_panels = ceil_div(c.c_out, COLUMNS);
  // Where blocks are few, the pixels are in parts, with sums of their own, which are added in order.
  int64_t parts = blocks >= 4 * threads ? 1 : threads / std::gcd(blocks, threads);
  parts = std::clamp<int64_t>(parts, 1, ceil_div(phase.all, PIXELS));
  std::vector<float> others((parts - 1) * size);
  parallel(pool, parts * blocks, c.batch * c.result(), [&](int64_t task) {
    static thread_local std::vector<float> a, b;
    static thread_local std::vector<const float*> inputs, gradients;
    int64_t part = task / blocks, block_y = task % blocks / across, block_x = task % blocks % across;
    int64_t top = row_panels * block_y / down * ROWS, left = column_panels * block_x / across * COLUMNS;
    int64_t bottom = std::min(c.c_in, row_panels * (block_y + 1) / down * ROWS);
    int64_t right = std::min(c.c_out, column_panels * (block_x + 1) / across * COLUMNS);
    float* sums = part ? &others[(part - 1) * size] : gradient;
    int64_t begin = phase.all * part / parts, end = phase.all * (part + 1) / parts;
    int64_t pieces = ceil_div(end - begin, PIXELS);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      int64_t first = begin + (end - begin) * piece / pieces, last = begin + (end - begin) * (piece + 1) / pieces;
      for (const Phase::Tap& tap : phase.taps) {
        inputs.clear(), gradients.clear();
        phase.each(tap, first, last - first, [&](int64_t pixel, int64_t result) {
          inputs.push_back(images + pixel * c.c_in), gradients.push_back(upstream + result * c.c_out);
        });
        int64_t count = inputs.size();
        gather<ROWS>(inputs, top, bottom, a);
        gather<COLUMNS>(gradients, left, right, b);
        auto add = piece ? tile_at_edge<true> : tile_at_edge<false>;
        for (int64_t column = left; column < right; column += COLUMNS)
          for (int64_t row = top; row < bottom; row += ROWS) {
            float* rows[ROWS];
            for (int64_t r = 0; r < ROWS; ++r) rows[r] = sums + (tap.number * c.c_in + row + r) * c.c_out;
            add(&a[(row - top) * count], &b[(column - left) * count], count, rows, column,
                std::min<int64_t>(ROWS, bottom - row), std::min<int64_t>(COLUMNS, right - column));
          }
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
