import torch
from snnconv import dynamics as d
for dt in (torch.bfloat16,torch.float32):
  for xs in ((2,1,3),(2,1,3,2),(3,2,1,1)):
    for th in (1.0, torch.rand(xs[2])+.5):
        x=torch.randn(xs).to(dt)
        for n,o in (('if',{}),('signed_if',{}),('srp',{'pre_timesteps':1}),('shifted_threshold',{})):
          for k in ({},{'scaled':False},{'scaled':False,'dtype':torch.int8}):
            a=d.scan(n,x,th,backend='numba',**k,**o); b=d.scan(n,x,th,backend='eager',**k,**o)
            assert torch.equal(a,b)
print('ok')
