// Sums over images for each channel, float32, in one pass over memory: the moments of BatchNorm, and what its backward
// pass sums up. Images are [group, row, channel]: each group has sums of its own.
//
// Rows are taken in pieces. The sums of four rows at a time are added in float32, within a block that stays in the
// first-level cache; those of blocks in float64, in order: the same bits on any number of cores.

#pragma once

namespace sums {

constexpr int64_t PIECE = 256 << 10;  // floats of images in a task
constexpr int64_t CACHED = 4 << 10;   // of a block
constexpr int64_t PLACES = 8 << 10;   // whose positive samples are counted at a time

struct Shape {
  int64_t groups, rows, channels;
};

// Two sums for each channel.
struct Sums {
  std::vector<double> first, second;

  explicit Sums(int64_t channels = 0) : first(channels), second(channels) {}
};

// Adds those of up to four rows.
template <bool own, int rows>
void add_rows(const float* x, const float* other, const float* centre, int64_t channels, float* __restrict sums,
              float* __restrict products) {
  for (int64_t c = 0; c < channels; ++c) {
    float sum = 0, product = 0;
#pragma GCC unroll 4
    for (int row = 0; row < rows; ++row) {
      float centred = x[row * channels + c] - centre[c], d = own ? centred : other[row * channels + c];
      sum += d;
      product += centred * d;
    }
    sums[c] += sum;
    products[c] += product;
  }
}

// Of some rows: the sums of d and of (x - centre) d, where d is `other`, or x - centre itself.
template <bool own>
Sums of_piece(const float* x, const float* other, const float* centre, int64_t rows, int64_t channels) {
  Sums all(channels);
  std::vector<float> sums(channels), products(channels);
  const int64_t block = std::max<int64_t>(4, CACHED / std::max<int64_t>(1, channels) / 4 * 4);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t last = std::min(rows, first + block);
    std::fill(sums.begin(), sums.end(), 0.f);
    std::fill(products.begin(), products.end(), 0.f);
    int64_t row = first;
    for (; row + 4 <= last; row += 4)
      add_rows<own, 4>(x + row * channels, other + row * channels, centre, channels, sums.data(), products.data());
    for (; row < last; ++row)
      add_rows<own, 1>(x + row * channels, other + row * channels, centre, channels, sums.data(), products.data());
    for (int64_t c = 0; c < channels; ++c) {
      all.first[c] += sums[c];
      all.second[c] += products[c];
    }
  }
  return all;
}

// Calls use(group, piece, first row, number of rows) on all threads.
template <class Use>
void each_piece(ffi::ThreadPool& pool, const Shape& shape, int64_t pieces, Use use) {
  parallel(pool, shape.groups * pieces, shape.groups * shape.rows * shape.channels, [&](int64_t task) {
    int64_t group = task / pieces, piece = task % pieces;
    int64_t first = shape.rows * piece / pieces, last = shape.rows * (piece + 1) / pieces;
    use(group, piece, group * shape.rows + first, last - first);
  });
}

inline int64_t pieces_of(const Shape& shape) {
  return std::clamp<int64_t>(ceil_div(shape.rows * shape.channels, PIECE), 1, std::max<int64_t>(1, shape.rows));
}

// The sums [group, channel] of so many pieces each, in order.
inline void add_pieces(const Shape& shape, int64_t pieces, const std::vector<Sums>& found, float* first, float* second) {
  for (int64_t group = 0; group < shape.groups; ++group)
    for (int64_t c = 0; c < shape.channels; ++c) {
      double one = 0, other = 0;
      for (int64_t piece = group * pieces; piece < (group + 1) * pieces; ++piece) {
        one += found[piece].first[c];
        other += found[piece].second[c];
      }
      first[group * shape.channels + c] = one;
      second[group * shape.channels + c] = other;
    }
}

// Adds to `times` [row, channel] how many of so many samples, `apart` floats apart, are positive after scaling and
// shifting.
template <int samples>
void count(const float* x, int64_t apart, const float* centre, const float* gain, const float* offset, int64_t rows,
           int64_t channels, int32_t* __restrict times) {
  for (int64_t row = 0; row < rows; ++row, x += channels, times += channels)
    for (int64_t c = 0; c < channels; ++c) {
      int32_t positive = 0;
#pragma GCC unroll 4
      for (int sample = 0; sample < samples; ++sample)
        positive += (x[sample * apart + c] - centre[c]) * gain[c] + offset[c] > 0;
      times[c] += positive;
    }
}

// Mean and biased variance [group, channel]. Each piece is centred on the mean of its first rows, and pieces are put
// together as by Chan, Golub and LeVeque (1983): nothing cancels, however far from 0 the mean is.
inline void moments(ffi::ThreadPool& pool, const Shape& shape, const float* x, float* mean, float* var) {
  const int64_t pieces = pieces_of(shape), channels = shape.channels;
  struct Piece {
    int64_t rows;
    std::vector<float> centre;
    Sums sums;
  };
  std::vector<Piece> found(shape.groups * pieces);
  each_piece(pool, shape, pieces, [&](int64_t group, int64_t piece, int64_t first, int64_t rows) {
    const float* from = x + first * channels;
    Piece& own = found[group * pieces + piece];
    own = {rows, std::vector<float>(channels), Sums()};
    const int64_t some = std::min<int64_t>(rows, 16);
    for (int64_t row = 0; row < some; ++row)
      for (int64_t c = 0; c < channels; ++c) own.centre[c] += from[row * channels + c] / some;
    own.sums = of_piece<true>(from, from, own.centre.data(), rows, channels);
  });
  for (int64_t group = 0; group < shape.groups; ++group)
    for (int64_t c = 0; c < channels; ++c) {
      double all = 0, of_all = 0, squares = 0;  // rows, their mean, and the sum of squares around it
      for (const Piece* piece = &found[group * pieces]; piece < &found[group * pieces] + pieces; ++piece) {
        double off = piece->sums.first[c] / piece->rows, own = piece->centre[c] + off, apart = own - of_all;
        squares += piece->sums.second[c] - off * piece->sums.first[c] +
                   apart * apart * all * piece->rows / (all + piece->rows);
        all += piece->rows;
        of_all += apart * piece->rows / all;
      }
      mean[group * channels + c] = of_all;
      var[group * channels + c] = squares / all;
    }
}

// Sums [group, channel] of (x - centre) times `other`, and of `other`.
inline void products(ffi::ThreadPool& pool, const Shape& shape, const float* x, const float* centre, const float* other,
                     float* of_products, float* of_other) {
  const int64_t pieces = pieces_of(shape), channels = shape.channels;
  std::vector<Sums> found(shape.groups * pieces);
  each_piece(pool, shape, pieces, [&](int64_t group, int64_t piece, int64_t first, int64_t rows) {
    found[group * pieces + piece] =
        of_piece<false>(x + first * channels, other + first * channels, centre + group * channels, rows, channels);
  });
  add_pieces(shape, pieces, found, of_other, of_products);
}

// Over all places [group, channel]: how many samples, and how many pairs of samples, are positive after scaling and
// shifting x [group, sample, place, channel].
inline void positives(ffi::ThreadPool& pool, const Shape& shape, int64_t samples, const float* x, const float* centre,
                      const float* gain, const float* offset, float* counts, float* pairs) {
  const int64_t groups = shape.groups, places = shape.rows / std::max<int64_t>(1, samples), channels = shape.channels;
  // A few places at a time, so that what is counted of them stays in the first-level cache.
  const int64_t some = std::max<int64_t>(1, PLACES / std::max<int64_t>(1, channels)), pieces = ceil_div(places, some);
  std::vector<Sums> found(groups * pieces, Sums(channels));
  parallel(pool, groups * pieces, groups * samples * places * channels, [&](int64_t task) {
    const int64_t group = task / pieces, first = task % pieces * some, rows = std::min(some, places - first);
    std::vector<int32_t> times(rows * channels);
    const int64_t own_numbers = group * channels, image = places * channels;
    for (int64_t sample = 0; sample < samples;) {
      const float* from = x + ((group * samples + sample) * places + first) * channels;
      auto some_samples = samples - sample >= 4 ? count<4> : count<1>;
      some_samples(from, image, centre + own_numbers, gain + own_numbers, offset + own_numbers, rows, channels,
                   times.data());
      sample += samples - sample >= 4 ? 4 : 1;
    }
    for (int64_t i = 0; i < rows * channels; ++i) {
      found[task].first[i % channels] += times[i];
      found[task].second[i % channels] += double(times[i]) * (times[i] - 1);
    }
  });
  add_pieces(shape, pieces, found, counts, pairs);
}

// Euclidean norms [group] of x [group, size]. Squares are those of float64 numbers, so that none is 0 or infinite.
inline void norms(ffi::ThreadPool& pool, int64_t groups, int64_t size, const float* x, float* norms) {
  constexpr int64_t SOME = 16;
  const Shape shape = {groups, size, 1};
  const int64_t pieces = pieces_of(shape);
  std::vector<double> found(groups * pieces);
  each_piece(pool, shape, pieces, [&](int64_t group, int64_t piece, int64_t first, int64_t count) {
    const float *from = x + first, *end = from + count;
    double sums[SOME] = {};
    for (; from + SOME <= end; from += SOME)
#pragma GCC unroll 16
      for (int i = 0; i < SOME; ++i) sums[i] += double(from[i]) * from[i];
    for (; from < end; ++from) sums[0] += double(*from) * *from;
    for (double sum : sums) found[group * pieces + piece] += sum;
  });
  for (int64_t group = 0; group < groups; ++group) {
    double sum = 0;
    for (int64_t piece = 0; piece < pieces; ++piece) sum += found[group * pieces + piece];
    norms[group] = std::sqrt(sum);
  }
}

// Arrays of any shape [group..., row..., channel]: where XLA had to reshape them, it would compute them once more.
using Array = ffi::AnyBuffer;
using Result = ffi::Result<Array>;

inline Shape shape_of(Array x, int64_t leading) {
  auto sizes = x.dimensions();
  int64_t groups = 1;
  for (int64_t axis = 0; axis < leading; ++axis) groups *= sizes[axis];
  int64_t channels = sizes.back();
  return {groups, int64_t(x.element_count()) / std::max<int64_t>(1, groups * channels), channels};
}

inline const float* in(Array x) { return x.typed_data<float>(); }
inline float* out(Result x) { return x->typed_data<float>(); }

inline ffi::Error moments_handler(ffi::ThreadPool pool, int64_t leading, Array x, Result mean, Result var) {
  moments(pool, shape_of(x, leading), in(x), out(mean), out(var));
  return ffi::Error::Success();
}

inline ffi::Error products_handler(ffi::ThreadPool pool, int64_t leading, Array x, Array centre, Array other,
                                   Result of_products, Result of_other) {
  products(pool, shape_of(x, leading), in(x), in(centre), in(other), out(of_products), out(of_other));
  return ffi::Error::Success();
}

inline ffi::Error positives_handler(ffi::ThreadPool pool, int64_t leading, Array x, Array centre, Array gain,
                                    Array offset, Result counts, Result pairs) {
  positives(pool, shape_of(x, leading), x.dimensions()[leading], in(x), in(centre), in(gain), in(offset), out(counts),
            out(pairs));
  return ffi::Error::Success();
}

inline ffi::Error norm_handler(ffi::ThreadPool pool, int64_t leading, Array x, Result result) {
  int64_t groups = result->element_count();
  norms(pool, groups, x.element_count() / std::max<int64_t>(1, groups), in(x), out(result));
  return ffi::Error::Success();
}

// A handler's arguments before its arrays.
inline auto binding() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attr<int64_t>("leading"); }

}  // namespace sums
