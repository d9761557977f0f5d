// The convolution of NHWC images by an HWIO kernel and its gradient by the kernel, float32, for CPUs.
//
// Direct, with register tiles: a tile of results is some pixels (or kernel rows) by BLOCK output channels and
// stays in vector registers while all products that belong to it are added. Images are copied into a zero-padded
// scratch first, so that no inner loop knows about borders. With C channels, the k pixels under one row of a
// kernel are k * C floats in a row: one run of products, long even where C is 3 (the first layer of a network).
//
// With input dilation (the gradient of a strided convolution by its images) the results fall into phases: those
// of one phase meet the same taps of the kernel, and none of the zeros between the input's pixels is multiplied.
//
// What many channels, 3x3 kernels, and BatchNorm take instead is in the headers that are included below.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16;  // floats in a vector register
#else
constexpr int LANES = 8;
#endif
constexpr int DIRECT = 8;           // lanes of the direct convolution: wider ones are no faster
constexpr int BLOCK = 2 * DIRECT;   // output channels in a tile
constexpr int ACCUMULATORS = 12;    // of a tile: AVX2 has 16 registers
constexpr int64_t SCRATCH = 64 << 10;  // floats of padded images that are worked on at a time
constexpr int64_t SMALL = 16 << 10;    // floats that are not worth a second thread
constexpr int64_t LINE = 16;              // floats in a line of the cache
constexpr int64_t ROW = 64;               // pixels that make a row long enough
constexpr int64_t GRADIENT_PIXELS = 192;  // whose results' gradients stay in the first-level cache

template <int lanes>
struct Lanes {
  typedef float Vector __attribute__((vector_size(4 * lanes), aligned(4)));
  static Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
  static void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t tile_size(int64_t channels) { return channels > DIRECT ? ACCUMULATORS / 2 : ACCUMULATORS; }

// Runs task(0) ... task(count - 1) for something of `floats` floats in all on XLA's threads, or on this one where
// that is done before another would wake up. The caller takes part, and waits for tasks that have begun
// only: threads that all wait for each other cannot happen.
void parallel(ffi::ThreadPool& pool, int64_t count, int64_t floats, std::function<void(int64_t)> task) {
  if (floats < SMALL) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::mutex mutex;
    std::condition_variable changed;
  };
  auto shared = std::make_shared<Shared>();
  auto work = [shared, count, task] {
    for (int64_t i; (i = shared->next++) < count;) {
      task(i);
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (++shared->done == count) shared->changed.notify_all();
    }
  };
  for (int64_t i = 1; i < std::min(count, pool.num_threads()); ++i) pool.Schedule(std::function<void()>(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->changed.wait(lock, [&] { return shared->done == count; });
}

// One axis of a convolution: result o and tap k of the kernel meet the input at
// (o * stride + k * kernel_dilation - low) / input_dilation, where that is whole.
struct Axis {
  int64_t input, output, taps, stride, low, input_dilation, kernel_dilation;
  int64_t phases, step;      // results `phases` apart have the same taps, and inputs `step` apart
  int64_t before, extended;  // zeros in front of the input, and its size with zeros at both ends

  Axis(int64_t input, int64_t output, int64_t taps, int64_t stride, int64_t low, int64_t input_dilation,
       int64_t kernel_dilation)
      : input(input), output(output), taps(taps), stride(stride), low(low), input_dilation(input_dilation),
        kernel_dilation(kernel_dilation) {
    phases = input_dilation / std::gcd(input_dilation, stride);
    step = phases * stride / input_dilation;
    before = ceil_div(std::max<int64_t>(low, 0), input_dilation);
    int64_t last = ((output - 1) * stride + (taps - 1) * kernel_dilation - low) / input_dilation;
    extended = before + std::max(input, last + 1);
  }
  // Where tap k meets the padded input for the first result of a phase; -1 where it meets none.
  int64_t start(int64_t phase, int64_t k) const {
    int64_t position = phase * stride + k * kernel_dilation - low + before * input_dilation;
    return position % input_dilation ? -1 : position / input_dilation;
  }
  int64_t results(int64_t phase) const { return ceil_div(output - phase, phases); }
};

// A run of products: `length` floats of the padded image from `x` on, times as many rows of the kernel from `w` on.
struct Run {
  int64_t x, w, length;
};

struct Convolution {
  Axis height, width;
  int64_t batch, channels, groups, c_in, c_out;  // c_in, c_out: in one group

  bool padded() const { return height.extended != height.input || width.extended != width.input; }
  int64_t image() const { return height.input * width.input * channels; }
  int64_t padded_image() const { return height.extended * width.extended * channels; }
  int64_t result() const { return height.output * width.output * groups * c_out; }
  int64_t rows() const { return height.taps * width.taps * c_in; }
  int64_t blocks() const { return ceil_div(c_out, BLOCK); }
  int64_t images_at_a_time(int64_t threads) const {
    return std::clamp<int64_t>(SCRATCH / padded_image(), 1, std::max<int64_t>(1, batch / threads));
  }

  // Images first ... first + count - 1 with their borders of zeros, in `scratch` unless they need none.
  const float* pad(const float* images, int64_t first, int64_t count, std::vector<float>& scratch) const {
    if (!padded()) return images + first * image();
    scratch.resize(count * padded_image());
    int64_t line = width.extended * channels, left = width.before * channels, middle = width.input * channels;
    float* to = scratch.data();
    for (int64_t i = 0; i < count; ++i)
      for (int64_t y = -height.before; y < height.extended - height.before; ++y, to += line) {
        if (y < 0 || y >= height.input) {
          std::fill_n(to, line, 0.f);
          continue;
        }
        std::fill_n(to, left, 0.f);
        std::memcpy(to + left, images + (first + i) * image() + y * middle, middle * sizeof(float));
        std::fill_n(to + left + middle, line - left - middle, 0.f);
      }
    return scratch.data();
  }

  std::vector<Run> runs(int64_t group, int64_t phase_y, int64_t phase_x) const {
    std::vector<Run> runs;
    bool whole_rows = groups == 1 && width.kernel_dilation == 1 && width.input_dilation == 1;
    for (int64_t ky = 0; ky < height.taps; ++ky) {
      int64_t y = height.start(phase_y, ky);
      for (int64_t kx = 0; kx < (whole_rows ? 1 : width.taps); ++kx) {
        int64_t x = width.start(phase_x, kx);
        if (y < 0 || x < 0) continue;
        runs.push_back({(y * width.extended + x) * channels + group * c_in, (ky * width.taps + kx) * c_in,
                        whole_rows ? width.taps * c_in : c_in});
      }
    }
    return runs;
  }
};

// `pixels` results of `vectors` * DIRECT channels: from the padded image at x[p], and from a kernel's block.
template <int pixels, int vectors>
void convolve_tile(const float* const* x, const std::vector<Run>& runs, const float* kernel, float* const* results,
                   int64_t channels) {
  using L = Lanes<DIRECT>;
  L::Vector sums[pixels][vectors] = {};
  for (const Run& run : runs) {
    const float* w = kernel + run.w * BLOCK;
    for (int64_t i = run.x; i < run.x + run.length; ++i, w += BLOCK) {
      L::Vector weights[vectors];
#pragma GCC unroll 12
      for (int v = 0; v < vectors; ++v) weights[v] = L::load(w + v * DIRECT);
#pragma GCC unroll 12
      for (int p = 0; p < pixels; ++p)
#pragma GCC unroll 12
        for (int v = 0; v < vectors; ++v) sums[p][v] += x[p][i] * weights[v];
    }
  }
#pragma GCC unroll 12
  for (int p = 0; p < pixels; ++p) {
    if (channels == vectors * DIRECT) {
#pragma GCC unroll 12
      for (int v = 0; v < vectors; ++v) L::store(results[p] + v * DIRECT, sums[p][v]);
    } else {
      float values[vectors * DIRECT];
#pragma GCC unroll 12
      for (int v = 0; v < vectors; ++v) L::store(values + v * DIRECT, sums[p][v]);
      std::memcpy(results[p], values, channels * sizeof(float));
    }
  }
}

// The same for as many pixels as there are, `tile` at most.
template <int vectors, int tile = ACCUMULATORS / vectors>
void convolve_pixels(int64_t pixels, const float* const* x, const std::vector<Run>& runs, const float* kernel,
                     float* const* results, int64_t channels) {
  if (pixels >= tile) return convolve_tile<tile, vectors>(x, runs, kernel, results, channels);
  if constexpr (tile > 1) return convolve_pixels<vectors, tile - 1>(pixels, x, runs, kernel, results, channels);
}

// All results of `count` images in one block of channels. A tile's pixels may be of several images.
void convolve_images(const Convolution& c, const float* x, int64_t count, int64_t group, int64_t block,
                     const float* kernel, float* results) {
  int64_t first = block * BLOCK, channels = std::min<int64_t>(BLOCK, c.c_out - first);
  int64_t all_channels = c.groups * c.c_out, tile = tile_size(channels);
  results += group * c.c_out + first;
  for (int64_t phase_y = 0; phase_y < c.height.phases; ++phase_y)
    for (int64_t phase_x = 0; phase_x < c.width.phases; ++phase_x) {
      std::vector<Run> runs = c.runs(group, phase_y, phase_x);
      int64_t across = c.width.results(phase_x), down = c.height.results(phase_y), all = count * down * across;
      int64_t image = 0, y = 0, column = 0;
      for (int64_t done = 0; done < all; done += tile) {
        const float* from[ACCUMULATORS];
        float* to[ACCUMULATORS];
        int64_t pixels = std::min(tile, all - done);
        for (int64_t p = 0; p < pixels; ++p) {
          from[p] = x + image * c.padded_image() +
                    (y * c.height.step * c.width.extended + column * c.width.step) * c.channels;
          to[p] = results + image * c.result() +
                  ((phase_y + y * c.height.phases) * c.width.output + phase_x + column * c.width.phases) * all_channels;
          if (++column == across) {
            column = 0;
            if (++y == down) y = 0, ++image;
          }
        }
        if (channels > DIRECT) convolve_pixels<2>(pixels, from, runs, kernel, to, channels);
        else convolve_pixels<1>(pixels, from, runs, kernel, to, channels);
      }
    }
}

// A row of results: its gradients, and where the kernel's first tap meets the padded image.
struct Row {
  const float* upstream;
  const float* x;
};

// Adds to `rows` rows of a kernel, `gradient_step` floats apart, what `lines` rows of results give.
template <int lanes, int rows, int vectors>
void gradient_tile(const Row* lines, int64_t count, int64_t pixels, int64_t upstream_step, int64_t step, int64_t offset,
                   float* gradient, int64_t gradient_step) {
  using L = Lanes<lanes>;
  typename L::Vector sums[rows][vectors];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 12
    for (int v = 0; v < vectors; ++v) sums[r][v] = L::load(gradient + r * gradient_step + v * lanes);
  for (const Row* line = lines; line < lines + count; ++line) {
    const float *x = line->x + offset, *upstream = line->upstream;
    for (int64_t pixel = 0; pixel < pixels; ++pixel, x += step, upstream += upstream_step) {
      typename L::Vector values[vectors];
#pragma GCC unroll 12
      for (int v = 0; v < vectors; ++v) values[v] = L::load(upstream + v * lanes);
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r)
#pragma GCC unroll 12
        for (int v = 0; v < vectors; ++v) sums[r][v] += x[r] * values[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 12
    for (int v = 0; v < vectors; ++v) L::store(gradient + r * gradient_step + v * lanes, sums[r][v]);
}

// A kernel: [taps, c_in, groups * c_out]; or that of the convolution in the other direction, whose taps are in the
// other order and whose channels have changed places: [taps, c_out, groups * c_in].
struct Kernel {
  const float* weights;
  bool reversed;

  // Calls put(channel, weight) for `channels` output channels of a group from `first` on, at one tap, for each of
  // `count` input channels from `c_in` on; in the order in which they are stored.
  template <class Put>
  void read(const Convolution& c, int64_t tap, int64_t group, int64_t c_in, int64_t count, int64_t first,
            int64_t channels, Put put) const {
    if (reversed) {
      int64_t last = c.height.taps * c.width.taps - 1;
      for (int64_t channel = 0; channel < channels; ++channel) {
        const float* from = weights + (((last - tap) * c.c_out + first + channel) * c.groups + group) * c.c_in + c_in;
        for (int64_t i = 0; i < count; ++i) put(i, channel, from[i]);
      }
    } else {
      for (int64_t i = 0; i < count; ++i) {
        const float* from = weights + ((tap * c.c_in + c_in + i) * c.groups + group) * c.c_out + first;
        for (int64_t channel = 0; channel < channels; ++channel) put(i, channel, from[channel]);
      }
    }
  }
};

#include "product.h"
#include "sums.h"
#include "winograd.h"

void convolve(ffi::ThreadPool& pool, const Convolution& c, const float* images, Kernel kernel, float* results) {
  if (int lanes = winograd::lanes_of(c)) {
    auto fast = lanes == LANES ? winograd::convolve<LANES> : winograd::convolve<8>;
    return fast(pool, c, images, kernel, results);
  }
  if (product::is_product(c)) return product::convolve(pool, c, images, kernel, results);
  // Each block of output channels of the kernel in one piece, with zeros for the channels that the last one lacks.
  int64_t panel = c.rows() * BLOCK, blocks = c.groups * c.blocks();
  std::vector<float> panels(blocks * panel);
  parallel(pool, blocks, panels.size(), [&](int64_t i) {
    int64_t group = i / c.blocks(), first = i % c.blocks() * BLOCK;
    int64_t channels = std::min<int64_t>(BLOCK, c.c_out - first);
    for (int64_t row = 0; row < c.rows();) {
      int64_t c_in = row % c.c_in, count = std::min(LINE, c.c_in - c_in);
      float* to = &panels[i * panel + row * BLOCK];
      kernel.read(c, row / c.c_in, group, c_in, count, first, channels,
                  [=](int64_t i, int64_t channel, float weight) { to[i * BLOCK + channel] = weight; });
      row += count;
    }
  });
  int64_t at_a_time = c.images_at_a_time(pool.num_threads());
  parallel(pool, ceil_div(c.batch, at_a_time), c.batch * c.result(), [&](int64_t part) {
    static thread_local std::vector<float> scratch;
    int64_t first = part * at_a_time, count = std::min(at_a_time, c.batch - first);
    const float* x = c.pad(images, first, count, scratch);
    for (int64_t i = 0; i < blocks; ++i)
      convolve_images(c, x, count, i / c.blocks(), i % c.blocks(), &panels[i * panel], results + first * c.result());
  });
}

// The same for as many rows of the kernel as there are, `tile` at most.
template <int vectors, int tile = ACCUMULATORS / vectors>
void gradient_rows(int64_t rows, const Row* lines, int64_t count, int64_t pixels, int64_t upstream_step, int64_t step,
                   int64_t offset, float* gradient) {
  if (rows >= tile)
    return gradient_tile<DIRECT, tile, vectors>(lines, count, pixels, upstream_step, step, offset, gradient, BLOCK);
  if constexpr (tile > 1)
    return gradient_rows<vectors, tile - 1>(rows, lines, count, pixels, upstream_step, step, offset, gradient);
}

void kernel_gradient(ffi::ThreadPool& pool, const Convolution& c, const float* images, const float* upstream,
                     float* gradient) {
  if (int lanes = winograd::lanes_of(c)) {
    auto fast = lanes == LANES ? winograd::kernel_gradient<LANES> : winograd::kernel_gradient<8>;
    return fast(pool, c, images, upstream, gradient);
  }
  if (product::is_product(c)) return product::kernel_gradient(pool, c, images, upstream, gradient);
  int64_t panel = c.rows() * BLOCK, blocks = c.groups * c.blocks(), all_channels = c.groups * c.c_out;
  int64_t across = c.width.output, lines_at_a_time = std::max<int64_t>(1, GRADIENT_PIXELS / across);
  int64_t threads = std::max<int64_t>(1, pool.num_threads());
  int64_t enough = ceil_div(lines_at_a_time, c.height.output);  // images, for a tile's sums to be loaded seldom
  int64_t at_a_time = std::clamp(enough, c.images_at_a_time(threads), std::max<int64_t>(1, c.batch / threads));

  // Adds to a panel, the gradient of a block of output channels, what `count` images give.
  auto add = [&](const float* x, int64_t first, int64_t count, int64_t i, float* sums) {
    static thread_local std::vector<float> packed;
    static thread_local std::vector<Row> lines;
    int64_t pixels = count * c.height.output * across;
    int64_t group = i / c.blocks(), first_channel = i % c.blocks() * BLOCK;
    int64_t channels = std::min<int64_t>(BLOCK, c.c_out - first_channel);
    const float* from = upstream + first * c.result() + group * c.c_out + first_channel;
    int64_t upstream_step = all_channels;
    if (channels < all_channels || channels % DIRECT) {  // in one piece, and with whole vectors
      packed.resize(pixels * BLOCK);
      for (int64_t pixel = 0; pixel < pixels; ++pixel, from += all_channels)
        std::memcpy(&packed[pixel * BLOCK], from, channels * sizeof(float));
      from = packed.data();
      upstream_step = BLOCK;
    }
    lines.clear();
    for (int64_t line = 0; line < count * c.height.output; ++line) {
      int64_t image = line / c.height.output, y = line % c.height.output;
      lines.push_back({from + line * across * upstream_step,
                       x + image * c.padded_image() + y * c.height.stride * c.width.extended * c.channels});
    }
    std::vector<Run> runs = c.runs(group, 0, 0);
    for (size_t line = 0; line < lines.size(); line += lines_at_a_time) {
      int64_t some = std::min<int64_t>(lines_at_a_time, lines.size() - line);
      for (const Run& run : runs)
        for (int64_t row = 0; row < run.length; row += tile_size(channels)) {
          auto rows = channels > DIRECT ? gradient_rows<2> : gradient_rows<1>;
          rows(run.length - row, &lines[line], some, across, upstream_step, c.width.stride * c.channels, run.x + row,
               sums + (run.w + row) * BLOCK);
        }
    }
  };
  // Writes a block's gradient, the sum of `parts` panels that are `apart` floats apart.
  auto write = [&](int64_t i, const float* sums, int64_t parts, int64_t apart) {
    int64_t group = i / c.blocks(), first = i % c.blocks() * BLOCK;
    int64_t channels = std::min<int64_t>(BLOCK, c.c_out - first);
    for (int64_t row = 0; row < c.rows(); ++row)
      for (int64_t channel = 0; channel < channels; ++channel) {
        float sum = 0;
        for (int64_t part = 0; part < parts; ++part) sum += sums[part * apart + row * BLOCK + channel];
        gradient[(row * c.groups + group) * c.c_out + first + channel] = sum;
      }
  };

  if (blocks >= threads && blocks * panel > c.batch * c.padded_image()) {  // a large kernel: each thread has its blocks
    std::vector<float> scratch;
    const float* x = c.pad(images, 0, c.batch, scratch);
    parallel(pool, blocks, c.batch * c.result(), [&](int64_t i) {
      static thread_local std::vector<float> sums;
      sums.assign(panel, 0.f);
      for (int64_t first = 0; first < c.batch; first += at_a_time)
        add(x + first * c.padded_image(), first, std::min(at_a_time, c.batch - first), i, sums.data());
      write(i, sums.data(), 1, 0);
    });
    return;
  }
  // Many images: each thread has its own, and panels of its own, which are summed in order: the same bits every time.
  int64_t parts = std::min(ceil_div(c.batch, at_a_time), threads);
  std::vector<float> sums(parts * blocks * panel);
  parallel(pool, parts, c.batch * c.result(), [&](int64_t part) {
    static thread_local std::vector<float> scratch;
    int64_t end = c.batch * (part + 1) / parts;
    for (int64_t first = c.batch * part / parts; first < end; first += at_a_time) {
      int64_t count = std::min(at_a_time, end - first);
      const float* x = c.pad(images, first, count, scratch);
      for (int64_t i = 0; i < blocks; ++i) add(x, first, count, i, &sums[(part * blocks + i) * panel]);
    }
  });
  parallel(pool, blocks, sums.size(), [&](int64_t i) { write(i, &sums[i * panel], parts, blocks * panel); });
}

using Images = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::Result<ffi::Buffer<ffi::F32, 4>>;
using Pair = ffi::Span<const int64_t>;

Convolution describe(const int64_t* images, const int64_t* kernel, const int64_t* results, Pair strides, Pair low,
                     Pair input_dilation, Pair kernel_dilation, int64_t groups) {
  auto axis = [&](int i) {
    return Axis(images[i + 1], results[i + 1], kernel[i], strides[i], low[i], input_dilation[i], kernel_dilation[i]);
  };
  Convolution c{axis(0), axis(1), images[0], images[3], groups, kernel[2], kernel[3] / groups};
  if (c.rows() > c.c_in || c.padded() || c.height.output != c.height.input || c.width.output != c.width.input) return c;
  // A product of matrices: pixels are in one long row, those of small images together.
  int64_t pixels = c.height.input * c.width.input, together = 1;
  while (pixels * together < ROW && c.batch % (2 * together) == 0) together *= 2;
  c.height = Axis(1, 1, 1, 1, 0, 1, 1);
  c.width = Axis(pixels * together, pixels * together, 1, 1, 0, 1, 1);
  c.batch /= together;
  return c;
}

ffi::Error convolve_handler(ffi::ThreadPool pool, Images images, Images kernel, Result results, Pair strides, Pair low,
                            Pair input_dilation, Pair kernel_dilation, int64_t groups, int64_t reversed) {
  const int64_t* size = kernel.dimensions().begin();
  const int64_t turned[] = {size[0], size[1], size[3] / groups, size[2] * groups};
  Convolution c = describe(images.dimensions().begin(), reversed ? turned : size, results->dimensions().begin(), strides,
                           low, input_dilation, kernel_dilation, groups);
  convolve(pool, c, images.typed_data(), {kernel.typed_data(), bool(reversed)}, results->typed_data());
  return ffi::Error::Success();
}

ffi::Error kernel_gradient_handler(ffi::ThreadPool pool, Images images, Images upstream, Result gradient, Pair strides,
                                   Pair low, Pair input_dilation, Pair kernel_dilation, int64_t groups) {
  Convolution c = describe(images.dimensions().begin(), gradient->dimensions().begin(), upstream.dimensions().begin(),
                           strides, low, input_dilation, kernel_dilation, groups);
  kernel_gradient(pool, c, images.typed_data(), upstream.typed_data(), gradient->typed_data());
  return ffi::Error::Success();
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Images>()
      .Arg<Images>()
      .Ret<Images>()
      .Attr<Pair>("strides")
      .Attr<Pair>("low")
      .Attr<Pair>("input_dilation")
      .Attr<Pair>("kernel_dilation")
      .Attr<int64_t>("groups");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(cnnjax_convolve, convolve_handler, binding().Attr<int64_t>("reversed"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnnjax_kernel_gradient, kernel_gradient_handler, binding());

using A = sums::Array;
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnnjax_moments, sums::moments_handler, sums::binding().Arg<A>().Ret<A>().Ret<A>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnnjax_products, sums::products_handler,
                              sums::binding().Arg<A>().Arg<A>().Arg<A>().Ret<A>().Ret<A>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnnjax_positives, sums::positives_handler,
                              sums::binding().Arg<A>().Arg<A>().Arg<A>().Arg<A>().Ret<A>().Ret<A>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(cnnjax_norm, sums::norm_handler, sums::binding().Arg<A>().Ret<A>());
