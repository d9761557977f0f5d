// Convolution by 3x3 kernels with stride 1 in 16 instead of 36 products for four results: F(2x2, 3x3) of Winograd's
// minimal filtering (Lavin and Gray 2015, arXiv 1509.09308, section 4.1).
//
// A tile of 4x4 pixels gives 2x2 results. Tiles and kernel are transformed, by sums and halves only, so that the
// errors are those of a direct convolution up to a small factor; at each of 16 points a matrix product over the
// channels follows; the transformed products are summed to results. Some tiles go through all of it together:
// enough that the kernel is read seldom, and few enough that they stay in the caches.

#pragma once

namespace winograd {

constexpr int POINTS = 16;
constexpr int64_t TILES = 48;  // at a time: the kernel is read once for so many
constexpr int64_t CACHED = 128 << 10;  // floats of transformed tiles and products, at most
constexpr int64_t APART = 16;  // floats between the points' matrices, which else meet in few lines of the cache
constexpr int64_t MOST_WEIGHTS = 256 * 256;  // channels in times out; kernels of more are read too often

// Floats from the kernel at one point to that at the next.
inline int64_t apart(const Convolution& c) { return c.c_in * c.c_out + APART; }

inline int64_t even(int64_t size) { return (size + 1) / 2 * 2; }

// Tiles that a product takes at once: results and kernel stay in registers.
constexpr int at_once(int vectors) { return vectors == 2 && LANES == 8 ? 6 : 12; }

// The vectors that hold a whole number of input and output channels; 0 if this convolution is none of these.
inline int lanes_of(const Convolution& c) {
  for (const Axis& axis : {c.height, c.width})
    if (axis.taps != 3 || axis.stride != 1 || axis.input_dilation != 1 || axis.kernel_dilation != 1) return 0;
  if (c.groups != 1 || c.c_in * c.c_out > MOST_WEIGHTS) return 0;
  for (int lanes : {LANES, 8})
    if (c.c_in % lanes == 0 && c.c_out % lanes == 0) return lanes;
  return 0;
}

// Lavin and Gray's matrices along one axis: B^T of pixels, G of a kernel, A^T of products, and the transposes of the
// last two for the gradients. A number is a float or a vector of channels.
constexpr auto of_pixels = [](const auto* d, auto* to) {
  to[0] = d[0] - d[2];
  to[1] = d[1] + d[2];
  to[2] = d[2] - d[1];
  to[3] = d[1] - d[3];
};
constexpr auto of_kernel = [](const auto* g, auto* to) {
  to[0] = g[0];
  to[1] = 0.5f * (g[0] + g[1] + g[2]);
  to[2] = 0.5f * (g[0] - g[1] + g[2]);
  to[3] = g[2];
};
constexpr auto of_products = [](const auto* m, auto* to) {
  to[0] = m[0] + m[1] + m[2];
  to[1] = m[1] - m[2] - m[3];
};
constexpr auto of_gradients = [](const auto* y, auto* to) {
  to[0] = y[0];
  to[1] = y[0] + y[1];
  to[2] = y[0] - y[1];
  to[3] = -y[1];
};
constexpr auto of_kernel_gradient = [](const auto* u, auto* to) {
  to[0] = u[0] + 0.5f * (u[1] + u[2]);
  to[1] = 0.5f * (u[1] - u[2]);
  to[2] = 0.5f * (u[1] + u[2]) + u[3];
};

// One of these along both axes: `get(row, column)` is what there is, `put(row, column, value)` takes what it becomes.
template <class T, int from, int to, class Transform, class Get, class Put>
inline __attribute__((always_inline)) void both_axes(Transform transform, Get get, Put put) {
  T columns[from][to], rows[to][from];
#pragma GCC unroll 4
  for (int column = 0; column < from; ++column) {
    T values[from];
#pragma GCC unroll 4
    for (int row = 0; row < from; ++row) values[row] = get(row, column);
    transform(values, columns[column]);
  }
#pragma GCC unroll 4
  for (int row = 0; row < to; ++row) {
    T values[to];
#pragma GCC unroll 4
    for (int column = 0; column < from; ++column) rows[row][column] = columns[column][row];
    transform(rows[row], values);
#pragma GCC unroll 4
    for (int column = 0; column < to; ++column) put(row, column, values[column]);
  }
}

// The kernel's 16 points for `count` input channels from `first` on: [point, block of `block` output channels, c_in,
// channel in the block].
inline void transform_kernel(const Convolution& c, int64_t first, int64_t count, int64_t block, Kernel kernel,
                             float* to) {
  int64_t point = apart(c);
  std::vector<float> weights(9 * LINE * block);
  for (int64_t channel = 0; channel < c.c_out; channel += block) {
    int64_t width = std::min(block, c.c_out - channel);
    for (int64_t tap = 0; tap < 9; ++tap)
      kernel.read(c, tap, 0, first, count, channel, width, [&](int64_t i, int64_t out, float weight) {
        weights[(tap * LINE + i) * block + out] = weight;
      });
    for (int64_t i = 0; i < count; ++i)
      for (int64_t out = 0; out < width; ++out) {
        float* own = to + channel * c.c_in + (first + i) * width + out;
        both_axes<float, 3, 4>(
            of_kernel, [&](int y, int x) { return weights[((3 * y + x) * LINE + i) * block + out]; },
            [&](int y, int x, float value) { own[(4 * y + x) * point] = value; });
      }
  }
}

// `tiles` rows of a matrix product [tile, c_in] by [c_in, vectors * lanes].
template <int lanes, int vectors, int tiles>
void product_tile(const float* x, int64_t c_in, const float* kernel, float* results, int64_t c_out) {
  using L = Lanes<lanes>;
  typename L::Vector sums[tiles][vectors] = {};
  for (int64_t k = 0; k < c_in; ++k, kernel += vectors * lanes) {
    typename L::Vector weights[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) weights[v] = L::load(kernel + v * lanes);
#pragma GCC unroll 16
    for (int t = 0; t < tiles; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[t][v] += x[t * c_in + k] * weights[v];
  }
#pragma GCC unroll 16
  for (int t = 0; t < tiles; ++t)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) L::store(results + t * c_out + v * lanes, sums[t][v]);
}

// The same for as many tiles as there are left, `most` at most.
template <int lanes, int vectors, int most = at_once(vectors)>
void product_tiles(int64_t tiles, const float* x, int64_t c_in, const float* kernel, float* results, int64_t c_out) {
  if (tiles >= most) return product_tile<lanes, vectors, most>(x, c_in, kernel, results, c_out);
  if constexpr (most > 1) return product_tiles<lanes, vectors, most - 1>(tiles, x, c_in, kernel, results, c_out);
}

template <int lanes>
void product(int64_t tiles, const float* x, int64_t c_in, const float* kernel, float* results, int64_t c_out) {
  for (int64_t first = 0; first < c_out; first += 2 * lanes) {
    bool wide = c_out - first >= 2 * lanes;
    int64_t step = at_once(wide ? 2 : 1);
    for (int64_t t = 0; t < tiles; t += step) {
      auto some = wide ? product_tiles<lanes, 2> : product_tiles<lanes, 1>;
      some(tiles - t, x + t * c_in, c_in, kernel + first * c_in, results + t * c_out + first, c_out);
    }
  }
}

// The tiles of a convolution's images, in order.
template <int lanes>
struct Tiles {
  using L = Lanes<lanes>;
  using Vector = typename L::Vector;

  int64_t height, width;  // of the results
  int64_t across, in_image;
  Convolution padded;  // with whole tiles
  int64_t some;  // tiles at a time
  int64_t in_point, out_point;  // floats from one point's matrix to the next

  explicit Tiles(const Convolution& c) : height(c.height.output), width(c.width.output), padded(c) {
    padded.height = Axis(c.height.input, even(height), 3, 1, c.height.low, 1, 1);
    padded.width = Axis(c.width.input, even(width), 3, 1, c.width.low, 1, 1);
    across = even(width) / 2;
    in_image = even(height) / 2 * across;
    some = std::clamp<int64_t>(CACHED / (POINTS * (c.c_in + c.c_out)), 12, TILES);
    in_point = some * c.c_in + APART;
    out_point = some * c.c_out + APART;
  }
  int64_t y(int64_t tile) const { return 2 * (tile % in_image / across); }
  int64_t x(int64_t tile) const { return 2 * (tile % across); }
  // Whether the tile's second row and column of results are in the image, and where its first result is.
  bool below(int64_t tile) const { return y(tile) + 1 < height; }
  bool right(int64_t tile) const { return x(tile) + 1 < width; }
  int64_t result(int64_t tile) const {
    return ((tile / in_image * height + y(tile)) * width + x(tile)) * padded.c_out;
  }

  void transform(const float* images, int64_t tile, float* to) const {
    int64_t line = padded.width.extended * padded.channels;
    images += tile / in_image * padded.padded_image() + y(tile) * line + x(tile) * padded.channels;
    for (int64_t channel = 0; channel < padded.c_in; channel += lanes)
      both_axes<Vector, 4, 4>(
          of_pixels, [&](int y, int x) { return L::load(images + y * line + x * padded.channels + channel); },
          [&](int y, int x, Vector value) { L::store(to + (4 * y + x) * in_point + channel, value); });
  }
  void transform_results(const float* products, int64_t tile, float* to) const {
    const bool second_row = below(tile), second_column = right(tile);
    int64_t line = width * padded.c_out;
    to += result(tile);
    for (int64_t channel = 0; channel < padded.c_out; channel += lanes)
      both_axes<Vector, 4, 2>(
          of_products, [&](int y, int x) { return L::load(products + (4 * y + x) * out_point + channel); },
          [&](int y, int x, Vector value) {
            if ((!y || second_row) && (!x || second_column)) L::store(to + y * line + x * padded.c_out + channel, value);
          });
  }
  // What the gradients of a tile's results are at the points; those outside of the image are 0.
  void transform_upstream(const float* gradients, int64_t tile, float* to) const {
    const bool second_row = below(tile), second_column = right(tile);
    int64_t line = width * padded.c_out;
    gradients += result(tile);
    for (int64_t channel = 0; channel < padded.c_out; channel += lanes)
      both_axes<Vector, 2, 4>(
          of_gradients,
          [&](int y, int x) {
            bool inside = (!y || second_row) && (!x || second_column);
            return inside ? L::load(gradients + y * line + x * padded.c_out + channel) : Vector{};
          },
          [&](int y, int x, Vector value) { L::store(to + (4 * y + x) * out_point + channel, value); });
  }

  // Calls use(first tile, number of tiles, their transformed pixels, room for as many products) for all of some images.
  template <class Use>
  void each(const float* images, int64_t first, int64_t count, Use use) const {
    static thread_local std::vector<float> scratch, transformed, products;
    transformed.resize(POINTS * in_point);
    products.resize(POINTS * out_point);
    const float* x = padded.pad(images, first, count, scratch);
    for (int64_t begin = 0, all = count * in_image; begin < all; begin += some) {
      int64_t tiles = std::min(some, all - begin);
      for (int64_t i = 0; i < tiles; ++i) transform(x, begin + i, &transformed[i * padded.c_in]);
      use(begin, tiles, transformed.data(), products.data());
    }
  }
};

template <int lanes>
void convolve(ffi::ThreadPool& pool, const Convolution& c, const float* images, Kernel kernel, float* results) {
  Tiles<lanes> t(c);
  std::vector<float> weights(POINTS * apart(c));
  parallel(pool, ceil_div(c.c_in, LINE), weights.size(), [&](int64_t line) {
    transform_kernel(c, line * LINE, std::min(LINE, c.c_in - line * LINE), 2 * lanes, kernel, weights.data());
  });
  int64_t at_a_time = t.padded.images_at_a_time(pool.num_threads());
  parallel(pool, ceil_div(c.batch, at_a_time), c.batch * c.result(), [&](int64_t part) {
    int64_t first = part * at_a_time, count = std::min(at_a_time, c.batch - first);
    t.each(images, first, count, [&](int64_t begin, int64_t tiles, const float* transformed, float* products) {
      for (int64_t point = 0; point < POINTS; ++point)
        product<lanes>(tiles, transformed + point * t.in_point, c.c_in, &weights[point * apart(c)],
                       products + point * t.out_point, c.c_out);
      for (int64_t i = 0; i < tiles; ++i)
        t.transform_results(products + i * c.c_out, begin + i, results + first * c.result());
    });
  });
}

// Adds to the kernel's gradient at one point, [c_in, c_out], what the tiles give.
template <int lanes>
void add_gradient(int64_t tiles, const float* x, int64_t c_in, const float* upstream, int64_t c_out, float* gradient) {
  constexpr int ROWS = LANES == 16 ? 8 : 4;  // a whole number of them is in `lanes`
  for (int64_t first = 0; first < c_out; first += 2 * lanes)
    for (int64_t row = 0; row < c_in; row += ROWS) {
      Row line = {upstream + first, x + row};
      auto add = c_out - first >= 2 * lanes ? gradient_tile<lanes, ROWS, 2> : gradient_tile<lanes, ROWS, 1>;
      add(&line, 1, tiles, c_out, c_in, 0, gradient + row * c_out + first, c_out);
    }
}

// The gradient by the kernel: at each point the tiles' transformed pixels times their transformed gradients.
template <int lanes>
void kernel_gradient(ffi::ThreadPool& pool, const Convolution& c, const float* images, const float* upstream,
                     float* gradient) {
  Tiles<lanes> t(c);
  int64_t weights = apart(c), threads = std::max<int64_t>(1, pool.num_threads());
  int64_t at_a_time = t.padded.images_at_a_time(threads), parts = std::min(ceil_div(c.batch, at_a_time), threads);
  // Each part adds into sums of its own, and these are added in order: the same bits every time.
  std::vector<float> sums(parts * POINTS * weights);
  parallel(pool, parts, c.batch * c.result(), [&](int64_t part) {
    float* own = &sums[part * POINTS * weights];
    int64_t last = c.batch * (part + 1) / parts;
    for (int64_t first = c.batch * part / parts; first < last; first += at_a_time)
      t.each(images, first, std::min(at_a_time, last - first),
             [&](int64_t begin, int64_t tiles, const float* transformed, float* products) {
               for (int64_t i = 0; i < tiles; ++i)
                 t.transform_upstream(upstream + first * c.result(), begin + i, products + i * c.c_out);
               for (int64_t point = 0; point < POINTS; ++point)
                 add_gradient<lanes>(tiles, transformed + point * t.in_point, c.c_in, products + point * t.out_point,
                                     c.c_out, own + point * weights);
             });
  });
  parallel(pool, c.c_in, sums.size(), [&](int64_t channel) {
    for (int64_t i = channel * c.c_out; i < (channel + 1) * c.c_out; ++i) {
      float whole[POINTS] = {};
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t point = 0; point < POINTS; ++point) whole[point] += sums[(part * POINTS + point) * weights + i];
      both_axes<float, 4, 3>(
          of_kernel_gradient, [&](int y, int x) { return whole[4 * y + x]; },
          [&](int y, int x, float value) { gradient[(3 * y + x) * c.c_in * c.c_out + i] = value; });
    }
  });
}

}  // namespace winograd
