#include "policy/gemm.h"

#include <omp.h>

#include "base/check.h"
#include "dnnl.h"

namespace pyramidkv {
namespace {

// oneDNN takes its number of threads from OpenMP, which keeps it per thread:
// nobody else is slowed by this.
class OneOmpThread {
 public:
  OneOmpThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneOmpThread() { omp_set_num_threads(before_); }
  OneOmpThread(const OneOmpThread&) = delete;
  OneOmpThread& operator=(const OneOmpThread&) = delete;

 private:
  int before_;
};

}  // namespace

void Gemm(const GemmArgs& args) {
  DCHECK(args.m > 0 && args.n > 0 && args.k > 0);
  const OneOmpThread one_thread;
  const dnnl_status_t status =
      dnnl_sgemm(args.a.transposed ? 'T' : 'N', args.b.transposed ? 'T' : 'N',
                 args.m, args.n, args.k, args.alpha, args.a.data, args.a.stride,
                 args.b.data, args.b.stride, args.beta, args.c, args.c_stride);
  DCHECK(status == dnnl_success);  // fails on bad shapes alone
}

}  // namespace pyramidkv
