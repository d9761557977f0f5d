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

template <int lanes>
struct Lanes {
  typedef float Vector __attribute__((vector_size(4 * lanes), aligned(4)));
  static Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
  static void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
};

// Floats from the kernel at one point to that at the next.
inline int64_t apart(const Convolution& c) { return c.c_in * c.c_out + APART; }

inline int64_t even(int64_t size) { return (size + 1) / 2 * 2; }

// The vectors that hold a whole number of input and output channels; 0 if this convolution is none of these.
inline int lanes_of(const Convolution& c) {
  for (const Axis& axis : {c.height, c.width})
    if (axis.taps != 3 || axis.stride != 1 || axis.input_dilation != 1 || axis.kernel_dilation != 1) return 0;
  if (c.groups != 1 || c.c_in * c.c_out > MOST_WEIGHTS) return 0;
  for (int lanes : {LANES, 8})
    if (c.c_in % lanes == 0 && c.c_out % lanes == 0) return lanes;
  return 0;
}

// B^T d B of Lavin and Gray, for one vector of channels of a tile of an image with `line` floats in a row.
template <int lanes>
void transform_tile(const float* x, int64_t line, int64_t channels, float* to, int64_t point) {
  using L = Lanes<lanes>;
  typename L::Vector rows[4][4];
#pragma GCC unroll 4
  for (int column = 0; column < 4; ++column) {
    typename L::Vector d[4];
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) d[row] = L::load(x + row * line + column * channels);
    rows[0][column] = d[0] - d[2];
    rows[1][column] = d[1] + d[2];
    rows[2][column] = d[2] - d[1];
    rows[3][column] = d[1] - d[3];
  }
#pragma GCC unroll 4
  for (int row = 0; row < 4; ++row) {
    const auto* d = rows[row];
    L::store(to + (4 * row + 0) * point, d[0] - d[2]);
    L::store(to + (4 * row + 1) * point, d[1] + d[2]);
    L::store(to + (4 * row + 2) * point, d[2] - d[1]);
    L::store(to + (4 * row + 3) * point, d[1] - d[3]);
  }
}

// A^T m A: the 2x2 results of a tile, those of them that are in the image.
template <int lanes>
void transform_results(const float* from, int64_t point, float* results, int64_t line, int64_t channels, bool below,
                       bool right) {
  using L = Lanes<lanes>;
  typename L::Vector rows[2][4];
#pragma GCC unroll 4
  for (int column = 0; column < 4; ++column) {
    typename L::Vector m[4];
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) m[row] = L::load(from + (4 * row + column) * point);
    rows[0][column] = m[0] + m[1] + m[2];
    rows[1][column] = m[1] - m[2] - m[3];
  }
#pragma GCC unroll 2
  for (int row = 0; row < 2; ++row) {
    if (row && !below) break;
    const auto* m = rows[row];
    L::store(results + row * line, m[0] + m[1] + m[2]);
    if (right) L::store(results + row * line + channels, m[1] - m[2] - m[3]);
  }
}

// G g G^T for each pair of channels: [point, block of `block` output channels, c_in, output channel in the block].
inline void transform_kernel(const Convolution& c, int64_t c_in, int64_t block, const float* kernel, float* to) {
  int64_t point = apart(c);
  for (int64_t channel = 0; channel < c.c_out; ++channel) {
    float g[3][3], rows[4][3];
    for (int i = 0; i < 9; ++i) g[i / 3][i % 3] = kernel[(i * c.c_in + c_in) * c.c_out + channel];
    for (int i = 0; i < 3; ++i) {
      rows[0][i] = g[0][i];
      rows[1][i] = 0.5f * (g[0][i] + g[1][i] + g[2][i]);
      rows[2][i] = 0.5f * (g[0][i] - g[1][i] + g[2][i]);
      rows[3][i] = g[2][i];
    }
    int64_t first = channel / block * block, width = std::min(block, c.c_out - first);
    float* own = to + first * c.c_in + c_in * width + channel - first;
    for (int row = 0; row < 4; ++row) {
      const float* r = rows[row];
      own[(4 * row + 0) * point] = r[0];
      own[(4 * row + 1) * point] = 0.5f * (r[0] + r[1] + r[2]);
      own[(4 * row + 2) * point] = 0.5f * (r[0] - r[1] + r[2]);
      own[(4 * row + 3) * point] = r[2];
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
template <int lanes, int vectors, int most = vectors == 2 ? (LANES == 16 ? 12 : 6) : 12>
void product_tiles(int64_t tiles, const float* x, int64_t c_in, const float* kernel, float* results, int64_t c_out) {
  if (tiles >= most) return product_tile<lanes, vectors, most>(x, c_in, kernel, results, c_out);
  if constexpr (most > 1) return product_tiles<lanes, vectors, most - 1>(tiles, x, c_in, kernel, results, c_out);
}

template <int lanes>
void product(int64_t tiles, const float* x, int64_t c_in, const float* kernel, float* results, int64_t c_out) {
  constexpr int64_t WIDE = LANES == 16 ? 12 : 6, NARROW = 12;
  for (int64_t first = 0; first < c_out; first += 2 * lanes) {
    bool wide = c_out - first >= 2 * lanes;
    int64_t step = wide ? WIDE : NARROW;
    for (int64_t t = 0; t < tiles; t += step) {
      auto some = wide ? product_tiles<lanes, 2> : product_tiles<lanes, 1>;
      some(tiles - t, x + t * c_in, c_in, kernel + first * c_in, results + t * c_out + first, c_out);
    }
  }
}

// The tiles of a convolution's images, in order.
struct Tiles {
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
  bool below(int64_t tile) const { return y(tile) + 1 < height; }
  bool right(int64_t tile) const { return x(tile) + 1 < width; }
  // Where the tile's results begin.
  int64_t result(int64_t tile) const {
    return ((tile / in_image * height + y(tile)) * width + x(tile)) * padded.c_out;
  }
  template <int lanes>
  void transform(const float* images, int64_t tile, float* to) const {
    int64_t line = padded.width.extended * padded.channels;
    images += tile / in_image * padded.padded_image() + y(tile) * line + x(tile) * padded.channels;
    for (int64_t channel = 0; channel < padded.c_in; channel += lanes)
      transform_tile<lanes>(images + channel, line, padded.channels, to + channel, in_point);
  }
};

template <int lanes>
void convolve(ffi::ThreadPool& pool, const Convolution& c, const float* images, const float* kernel, float* results) {
  Tiles t(c);
  std::vector<float> weights(POINTS * apart(c));
  parallel(pool, c.c_in, weights.size(),
           [&](int64_t channel) { transform_kernel(c, channel, 2 * lanes, kernel, weights.data()); });
  int64_t at_a_time = t.padded.images_at_a_time(pool.num_threads());
  parallel(pool, ceil_div(c.batch, at_a_time), c.batch * c.result(), [&](int64_t part) {
    static thread_local std::vector<float> scratch, transformed, products;
    transformed.resize(POINTS * t.in_point);
    products.resize(POINTS * t.out_point);
    int64_t first = part * at_a_time, all = std::min(at_a_time, c.batch - first) * t.in_image;
    const float* x = t.padded.pad(images, first, all / t.in_image, scratch);
    for (int64_t begin = 0; begin < all; begin += t.some) {
      int64_t end = std::min(all, begin + t.some);
      for (int64_t tile = begin; tile < end; ++tile) t.transform<lanes>(x, tile, &transformed[(tile - begin) * c.c_in]);
      for (int64_t point = 0; point < POINTS; ++point)
        product<lanes>(end - begin, &transformed[point * t.in_point], c.c_in, &weights[point * apart(c)],
                       &products[point * t.out_point], c.c_out);
      for (int64_t tile = begin; tile < end; ++tile) {
        const float* from = &products[(tile - begin) * c.c_out];
        float* to = results + first * c.result() + t.result(tile);
        for (int64_t channel = 0; channel < c.c_out; channel += lanes)
          transform_results<lanes>(from + channel, t.out_point, to + channel, t.width * c.c_out, c.c_out,
                                   t.below(tile), t.right(tile));
      }
    }
  });
}

// A dY A^T: what the 2x2 gradients of a tile's results are at the points; those outside of the image are 0.
template <int lanes>
void transform_upstream(const float* upstream, int64_t line, int64_t channels, bool below, bool right, float* to,
                        int64_t point) {
  using L = Lanes<lanes>;
  typename L::Vector none = {}, rows[4][2];
#pragma GCC unroll 2
  for (int column = 0; column < 2; ++column) {
    bool inside = !column || right;
    auto above = inside ? L::load(upstream + column * channels) : none;
    auto under = inside && below ? L::load(upstream + line + column * channels) : none;
    rows[0][column] = above;
    rows[1][column] = above + under;
    rows[2][column] = above - under;
    rows[3][column] = -under;
  }
#pragma GCC unroll 4
  for (int row = 0; row < 4; ++row) {
    const auto* d = rows[row];
    L::store(to + (4 * row + 0) * point, d[0]);
    L::store(to + (4 * row + 1) * point, d[0] + d[1]);
    L::store(to + (4 * row + 2) * point, d[0] - d[1]);
    L::store(to + (4 * row + 3) * point, -d[1]);
  }
}

// Adds to `rows` rows of a kernel at one point, [c_in, c_out], what the tiles give.
template <int lanes, int vectors, int rows>
void gradient_tile(int64_t tiles, const float* x, int64_t c_in, const float* upstream, int64_t c_out, float* gradient) {
  using L = Lanes<lanes>;
  typename L::Vector sums[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sums[r][v] = L::load(gradient + r * c_out + v * lanes);
  for (int64_t tile = 0; tile < tiles; ++tile, x += c_in, upstream += c_out) {
    typename L::Vector values[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) values[v] = L::load(upstream + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r][v] += x[r] * values[v];
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) L::store(gradient + r * c_out + v * lanes, sums[r][v]);
}

template <int lanes>
void add_gradient(int64_t tiles, const float* x, int64_t c_in, const float* upstream, int64_t c_out, float* gradient) {
  constexpr int ROWS = LANES == 16 ? 8 : 4;  // a whole number of them is in `lanes`
  for (int64_t first = 0; first < c_out; first += 2 * lanes)
    for (int64_t row = 0; row < c_in; row += ROWS) {
      auto add = c_out - first >= 2 * lanes ? gradient_tile<lanes, 2, ROWS> : gradient_tile<lanes, 1, ROWS>;
      add(tiles, x + row, c_in, upstream + first, c_out, gradient + row * c_out + first);
    }
}

// G^T dU G: the gradient of a 3x3 kernel from those at the points, which are `point` apart.
inline void gradient_of_kernel(const float* from, int64_t point, float* gradient, int64_t apart) {
  float rows[3][4];
  for (int column = 0; column < 4; ++column) {
    float u[4];
    for (int row = 0; row < 4; ++row) u[row] = from[(4 * row + column) * point];
    rows[0][column] = u[0] + 0.5f * (u[1] + u[2]);
    rows[1][column] = 0.5f * (u[1] - u[2]);
    rows[2][column] = 0.5f * (u[1] + u[2]) + u[3];
  }
  for (int row = 0; row < 3; ++row) {
    const float* u = rows[row];
    gradient[(3 * row + 0) * apart] = u[0] + 0.5f * (u[1] + u[2]);
    gradient[(3 * row + 1) * apart] = 0.5f * (u[1] - u[2]);
    gradient[(3 * row + 2) * apart] = 0.5f * (u[1] + u[2]) + u[3];
  }
}

// The gradient by the kernel: at each point the tiles' transformed pixels times their transformed gradients.
template <int lanes>
void kernel_gradient(ffi::ThreadPool& pool, const Convolution& c, const float* images, const float* upstream,
                     float* gradient) {
  Tiles t(c);
  int64_t weights = apart(c), threads = std::max<int64_t>(1, pool.num_threads());
  int64_t at_a_time = t.padded.images_at_a_time(threads), parts = std::min(ceil_div(c.batch, at_a_time), threads);
  // Each part adds into sums of its own, and these are added in order: the same bits every time.
  std::vector<float> sums(parts * POINTS * weights);
  parallel(pool, parts, c.batch * c.result(), [&](int64_t part) {
    static thread_local std::vector<float> scratch, transformed, products;
    transformed.resize(POINTS * t.in_point);
    products.resize(POINTS * t.out_point);
    float* own = &sums[part * POINTS * weights];
    int64_t last = c.batch * (part + 1) / parts;
    for (int64_t first = c.batch * part / parts; first < last; first += at_a_time) {
      int64_t all = std::min(at_a_time, last - first) * t.in_image;
      const float* x = t.padded.pad(images, first, all / t.in_image, scratch);
      for (int64_t begin = 0; begin < all; begin += t.some) {
        int64_t end = std::min(all, begin + t.some);
        for (int64_t tile = begin; tile < end; ++tile) {
          t.transform<lanes>(x, tile, &transformed[(tile - begin) * c.c_in]);
          const float* from = upstream + first * c.result() + t.result(tile);
          float* to = &products[(tile - begin) * c.c_out];
          for (int64_t channel = 0; channel < c.c_out; channel += lanes)
            transform_upstream<lanes>(from + channel, t.width * c.c_out, c.c_out, t.below(tile), t.right(tile),
                                      to + channel, t.out_point);
        }
        for (int64_t point = 0; point < POINTS; ++point)
          add_gradient<lanes>(end - begin, &transformed[point * t.in_point], c.c_in, &products[point * t.out_point],
                              c.c_out, own + point * weights);
      }
    }
  });
  parallel(pool, c.c_in, sums.size(), [&](int64_t channel) {
    for (int64_t i = channel * c.c_out; i < (channel + 1) * c.c_out; ++i) {
      float whole[POINTS] = {};
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t point = 0; point < POINTS; ++point) whole[point] += sums[(part * POINTS + point) * weights + i];
      gradient_of_kernel(whole, 1, gradient + i, c.c_in * c.c_out);
    }
  });
}

}  // namespace winograd
