#include "policy/gemm.h"

#include "base/check.h"
#include "base/one_omp_thread.h"
#include "dnnl.h"

namespace pyramidkv {
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
