#![allow(warnings, clippy::all)]
use wasmtime::component::*;
use wasmtime::*;
use wasmtime_wasi::*;
wasmtime::component::bindgen!({ path: "../wit/0.1", world: "stateful-plugin", imports: {default: trappable},
  with: {"pressroom:publisher/batches.event-batch": Ev, "pressroom:publisher/batches.network-batch": Nw}});
pub struct Ev(u32); pub struct Nw(u32);
use crate::pressroom::publisher::{batches, records::*, log, config};
struct S { ctx: WasiCtx, table: ResourceTable, cfg: Vec<(String,String)>, logs: u64, limits: StoreLimits, err: wasmtime_wasi::p2::pipe::MemoryOutputPipe, enc: Vec<u8> }
impl WasiView for S { fn ctx(&mut self) -> WasiCtxView<'_> { WasiCtxView{ctx:&mut self.ctx, table:&mut self.table} } }
type R<T> = wasmtime::Result<T>;
fn event(i: u32) -> EventMetrics { EventMetrics { id: format!("id-{i:032}"), event_name: format!("name{}", i%20), task_id: format!("task-{i}"), pipeline_id: (i%2==0).then(||"pipe".into()), process_id: Some(i), start_time: 1_000_000_000, end_time: Some(1_000_000_000+ i as u64*1000_000), status: EventStatus::Completed, error: (i%10==0).then(||"disk full".into()), retry_count: i%3, attributes: vec![Attribute{key:"k".into(), value:format!("v{i}"), kind:0}] } }
fn t<'a>(x: impl Iterator<Item=String>) -> TextColumn { let mut v=String::new(); let mut e=vec![]; for s in x { v+=&s; e.push(v.len() as u32);} TextColumn{values:v, ends:e} }
fn ot(x: Vec<Option<String>>) -> OptionalTextColumn { OptionalTextColumn{ present: x.iter().map(|o|o.is_some() as u8).collect(), column: t(x.into_iter().map(|o|o.unwrap_or_default())) } }
fn cols(n:u32)->EventColumns { let r: Vec<_> = (0..n).map(event).collect(); EventColumns{ id:t(r.iter().map(|r|r.id.clone())), event_name:t(r.iter().map(|r|r.event_name.clone())), task_id:t(r.iter().map(|r|r.task_id.clone())), pipeline_id: ot(r.iter().map(|r|r.pipeline_id.clone()).collect()), process_id:r.iter().map(|r|r.process_id.unwrap()).collect(), start_time:r.iter().map(|r|r.start_time).collect(), end_time:r.iter().map(|r|r.end_time.unwrap()).collect(), status:r.iter().map(|r|r.status as u8).collect(), error: ot(r.iter().map(|r|r.error.clone()).collect()), retry_count:r.iter().map(|r|r.retry_count).collect(), attributes: AttributeColumns{ ends:(1..=n).collect(), keys:t((0..n).map(|_|"k".into())), values:t((0..n).map(|i|format!("v{i}"))), kinds: vec![0;n as usize]}}}
impl batches::HostEventBatch for S {
 fn len(&mut self, r: Resource<Ev>) -> R<u32> { Ok(self.table.get(&r)?.0) }
 fn records(&mut self, r: Resource<Ev>) -> R<Vec<EventMetrics>> { Ok((0..self.table.get(&r)?.0).map(event).collect()) }
 fn columns(&mut self, r: Resource<Ev>) -> R<EventColumns> { Ok(cols(self.table.get(&r)?.0)) }
 fn encode(&mut self, r: Resource<Ev>, f: String) -> R<Result<Vec<u8>,String>> { Ok(if f.starts_with("json") {Ok(self.enc.clone())} else {Err(format!("unknown format {f}"))}) }
 fn drop(&mut self, r: Resource<Ev>) -> R<()> { Ok(()) }
}
impl batches::HostNetworkBatch for S {
 fn len(&mut self, r: Resource<Nw>) -> R<u32> { Ok(0) }
 fn records(&mut self, r: Resource<Nw>) -> R<Vec<NetworkMetrics>> { Ok(vec![]) }
 fn columns(&mut self, r: Resource<Nw>) -> R<NetworkColumns> { Err(wasmtime::format_err!("no")) }
 fn encode(&mut self, r: Resource<Nw>, f: String) -> R<Result<Vec<u8>,String>> { Ok(Ok(b"{}\n".to_vec())) }
 fn drop(&mut self, r: Resource<Nw>) -> R<()> { Ok(()) }
}
impl batches::Host for S {} impl crate::pressroom::publisher::records::Host for S {}
impl log::Host for S { fn log(&mut self, l: log::Level, m: String) -> R<()> { self.logs+=1; if self.logs <= 6 || m.starts_with("rows") { println!("   log {l:?} [{}] {}", m.len(), m.chars().take(150).collect::<String>()); } Ok(()) } }
impl config::Host for S { fn get(&mut self, k: String) -> R<Option<String>> { Ok(self.cfg.iter().find(|c|c.0==k).map(|c|c.1.clone())) } fn get_all(&mut self) -> R<String> { Ok("{}".into()) } }
fn main() -> wasmtime::Result<()> {
  let mut args = std::env::args().skip(1);
  let dir = args.next().unwrap(); let name = args.next().unwrap(); let calls: u32 = args.next().unwrap().parse()?;
  let mut c = Config::new(); c.epoch_interruption(true); c.concurrency_support(false);
  let e = Engine::new(&c)?; { let e = e.clone(); std::thread::spawn(move || loop { std::thread::sleep(std::time::Duration::from_millis(10)); e.increment_epoch(); }); }
  let t0 = std::time::Instant::now();
  let comp = Component::from_file(&e, format!("{dir}/{name}.wasm"))?; println!("{name}: compiled in {:?}", t0.elapsed());
  let mut l = Linker::<S>::new(&e); wasmtime_wasi::p2::add_to_linker_sync(&mut l)?;
  StatefulPlugin::add_to_linker::<_, HasSelf<_>>(&mut l, |s| s)?;
  let rest: Vec<String> = args.collect();
  let mut cfgs: Vec<Vec<(String,String)>> = vec![];
  for a in &rest { cfgs.push(a.split(',').filter_map(|kv| kv.split_once('=').map(|(k,v)|(k.into(),v.into()))).collect()); }
  for cfg in cfgs {
    println!("== {cfg:?}");
    let err = wasmtime_wasi::p2::pipe::MemoryOutputPipe::new(4096);
    let mut b = WasiCtxBuilder::new(); b.stderr(err.clone());
    if let Some((_,d)) = cfg.iter().find(|c|c.0=="grant") { b.preopened_dir(d, "/out", FsPerms::ReadWrite)?; }
    if let Some((_,d)) = cfg.iter().find(|c|c.0=="readonly") { b.preopened_dir(d, "/out", FsPerms::ReadOnly)?; }
    let enc: Vec<u8> = (0..1024).flat_map(|i| format!("{{\"id\":\"{i:036}\",\"event_name\":\"name{}\",\"x\":\"{}\"}}\n", i%20, "y".repeat(300)).into_bytes()).collect();
    let s = S{ctx:b.build(), table:ResourceTable::new(), cfg, logs:0, limits: StoreLimitsBuilder::new().memory_size(128<<20).build(), err: err.clone(), enc};
    let mut st = Store::new(&e, s); st.limiter(|s| &mut s.limits); st.set_epoch_deadline(100);
    let p = match StatefulPlugin::instantiate(&mut st, &comp, &l) { Ok(p)=>p, Err(e)=>{println!("   instantiate: {e:#}"); continue} };
    let mut run = || -> R<()> {
      let t0=std::time::Instant::now();
      println!("   start: {:?} {:?}", p.pressroom_publisher_lifecycle().call_start(&mut st)?, t0.elapsed());
      for call in 0..calls {
        st.set_epoch_deadline(100);
        let own = st.data_mut().table.push(Ev(1024))?;
        let t0=std::time::Instant::now();
        let r = p.pressroom_publisher_publisher().call_publish_event_metrics(&mut st, Resource::new_borrow(own.rep()))?;
        let el = t0.elapsed();
        st.data_mut().table.delete(own)?;
        let mut text = format!("{r:?}"); let n=text.len(); let text: String = text.chars().take(220).collect();
        if call < 5 || call+1==calls { println!("   publish: [{n}] {text} {el:?}"); }
      }
      st.set_epoch_deadline(100);
      println!("   flush: {:?}", p.pressroom_publisher_lifecycle().call_flush(&mut st)?);
      Ok(())
    };
    if let Err(e) = run() { println!("   TRAP: {}", e.root_cause()); let d=format!("{e:#}"); if d.contains("xit") {println!("   {}", d.lines().last().unwrap());} }
    println!("   logs={} stderr={:?}", st.data().logs, String::from_utf8_lossy(&err.contents()).chars().take(200).collect::<String>());
  }
  Ok(())
}
