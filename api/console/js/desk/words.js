// Words of the alert desk: [Chinese, English].

export const deskWords = {
  desk: ["值班台", "Desk"],
  "desk.cases": ["处置单", "Cases"], "desk.duty": ["值班表", "Duty"], "desk.routes": ["通知线路", "Routes"], "desk.service": ["停用", "Out of service"], "desk.figures": ["报警绩效", "Figures"],
  "desk.handover": ["交接班", "Handover"], handover: ["交接班记录", "Note of the shift"], handover_by: ["交班人 {name}", "by {name}"], handover_note: ["交班说明：尚未记入系统的事项（仅保存在本机，随文本与打印输出）", "What the next shift must know beside this (kept on this machine only; goes with text and print)"], handover_hours: ["时段", "Time"], handover_last: ["近 {n} 小时", "Last {n} h"],
  handover_about: ["由现有记录生成：未关闭告警、搁置与停用、处置单、本班操作和静默设备。", "Made of what is on record: open alerts, what is put aside, cases, steps taken and silent devices."], handover_none: ["无", "none"], handover_duty: ["当前值班", "On duty now"], handover_unack: ["未确认告警", "Unacknowledged alerts"], handover_acked: ["已确认、未关闭", "Acknowledged, still open"], handover_aside: ["搁置与停用", "Shelved and out of service"], handover_steps: ["本班操作", "Steps taken"], handover_silent: ["需关注的设备", "Devices that need attention"],
  copy_text: ["复制文本", "Copy as text"], copied: ["已复制", "Copied"], not_copied: ["浏览器不允许复制", "The browser does not allow copying"], print: ["打印", "Print"],
  severities: ["级别", "Severities"], note: ["说明（可选）", "Note (optional)"], note_needed: ["说明（必填）", "Note (required)"], remove: ["删除", "Remove"], change: ["修改", "Change"],
  reason: ["原因", "Reason"], who: ["操作人", "By"], until: ["至", "Until"], what: ["对象", "What"], unit_code: ["单元编码", "Unit"],

  "cases.open": ["未关闭", "Open"], "cases.closed": ["已关闭", "Closed"], "cases.all": ["全部", "All"], cases_csv: ["导出清单", "List as CSV"], cases_none: ["没有处置单", "No cases"],
  "case.dispatched": ["已派单", "dispatched"], "case.accepted": ["已接单", "accepted"], "case.handling": ["处理中", "being handled"], "case.evidenced": ["已举证", "evidence given"], "case.verified": ["已核实", "verified"], "case.closed": ["已关闭", "closed"],
  "case_do.dispatch": ["改派", "Give to another"], "case_do.accept": ["接单", "Accept"], "case_do.handle": ["记录处理", "Record handling"], "case_do.evidence": ["提交证据", "Give evidence"], "case_do.verify": ["核实通过", "Verify"], "case_do.refuse": ["退回", "Send back"], "case_do.close": ["关闭", "Close case"], "case_do.comment": ["备注", "Comment"],
  "case_step.dispatch": ["派单", "dispatched"], "case_step.accept": ["接单", "accepted"], "case_step.handle": ["处理", "handled"], "case_step.evidence": ["举证", "evidence"], "case_step.verify": ["核实", "verified"], "case_step.refuse": ["退回", "sent back"], "case_step.close": ["关闭", "closed"], "case_step.comment": ["备注", "comment"],
  case_handler: ["处理人 {name}", "handled by {name}"], case_due: ["限期 {at}", "due {at}"], case_overdue: ["已超期（限期 {at}）", "overdue (due {at})"], case_opened: ["{at} 由 {name} 派单", "opened {at} by {name}"],
  dispatch: ["派单处置", "Dispatch a case"], dispatch_title: ["派单处置", "Dispatch a case"], handler: ["处理人或部门", "Handler"], due: ["限期", "Due"],
  evidence_file: ["证据文件", "Evidence"], evidence_about: ["pdf、png、jpg、xlsx、docx、csv（至多 10 MB）由平台保存；其他文件只登记文件名与 SHA-256，原件请自行保存。", "pdf, png, jpg, xlsx, docx and csv of at most 10 MB are kept here; of others the name and SHA-256 are recorded: keep the original."],

  on_duty_now: ["当前值班：", "On duty now:"], nobody_on_duty: ["当前无人值班", "Nobody is on duty now"], add_duty: ["添加值班", "Add a duty"], person: ["人员", "Person"], phone: ["电话", "Phone"],
  time_span: ["时段", "From – to"], told_when: ["通知时机", "Told"], at_once: ["立即", "at once"], after: ["{time}未确认后", "after {time} unacknowledged"], starts: ["开始", "Start"], ends: ["结束", "End"],
  after_minutes: ["多少分钟未确认后通知（0 为立即）", "Told after so many minutes unacknowledged (0: at once)"], every_days: ["每隔几天", "Every so many days"], times: ["重复次数", "Times"],
  remove_duty: ["删除值班", "Remove the duty"], duty_none: ["未来两周没有排班", "The roster of the next two weeks is empty"], no_route: ["无通知线路", "no route"], no_route_about: ["该人员没有通知线路，收不到消息", "This person has no route and cannot be told"],
  duty_about: ["值班人员通过其名下“仅值班时”的通知线路收到报警；无人确认时按各人的时限升级。时间为基地当地时间。", "People on duty are told by routes in their name that are marked so; what nobody acknowledges goes on to the next by his time. Times are the base's."],

  routes_about: ["报警发给谁、何时发。地址与密钥只写入，不显示。", "Who is told of alerts, and when. Addresses and secrets go in and are never shown."], add_route: ["添加线路", "Add a route"], change_route: ["修改线路", "Change the route"], remove_route: ["删除线路", "Remove the route"], routes_none: ["没有通知线路", "No routes"],
  route_name: ["名称", "Name"], route_kind_label: ["方式", "Kind"], "route_kind.dingtalk": ["钉钉机器人", "DingTalk robot"], "route_kind.wecom": ["企业微信机器人", "WeCom robot"], "route_kind.feishu": ["飞书机器人", "Feishu robot"], "route_kind.email": ["邮件", "E-mail"],
  target: ["地址", "Address"], target_known: ["地址（留空则不变）", "Address (empty: as it is)"], target_about: ["机器人填 https 地址；邮件填 smtp://用户@主机:587/?from=a@b&to=c@d", "Robot: its https address; e-mail: smtp://user@host:587/?from=a@b&to=c@d"], secret: ["加签密钥或邮箱密码", "Signing key or mail password"],
  person_of_route: ["所属人员（留空为全基地）", "Whose (empty: the base's)"], route_language: ["语言", "Language"], "lang.zh": ["中文", "Chinese"], "lang.en": ["英文", "English"], of_person: ["{name} 的线路", "of {name}"], only_on_duty: ["仅值班时", "only while on duty"],
  quiet: ["免打扰 {from}–{to}", "quiet {from}–{to}"], quiet_from: ["免打扰开始", "Quiet from"], quiet_to: ["免打扰结束", "Quiet to"], digest: ["汇总 {time}", "digest {time}"], digest_minutes: ["汇总间隔（分钟，0 为即时）", "Digest (minutes, 0: at once)"], in_use: ["启用", "In use"], disabled: ["已停用", "not in use"],
  route_counts: ["已发 {sent} · 待发 {due} · 未送达 {dead}", "{sent} sent · {due} waiting · {dead} not delivered"], send_test: ["发送测试", "Send a test"], test_waiting: ["正在发送测试消息…", "The test message is being sent…"], test_sent: ["测试消息已于 {at} 送达", "The test message was taken at {at}"], test_failed: ["{at} 测试失败：{detail}", "Test failed at {at}: {detail}"],

  held_back: ["当前共停用 {n} 条报警", "{n} alerts are held back now"], service_now: ["停用中", "Now"], service_all: ["全部记录", "All"], take_out: ["停用", "Take out of service"], put_back: ["恢复投用", "Put back"], ended: ["{at} 由 {name} 恢复", "ended {at} by {name}"], service_none: ["没有停用的报警", "Nothing is out of service"],
  take_out_about: ["停用期间报警不提示、不通知，状态仍在后台更新，到期自动恢复。填写的条件须同时满足。", "Its alerts are told to nobody and kept underneath; they come back when the time is over. What fits all codes given."],

  "kpi_days.1": ["今日", "Today"], "kpi_days.7": ["7 天", "7 d"], "kpi_days.30": ["30 天", "30 d"], kpi_rate: ["每 10 分钟报警数", "Raises per 10 min"], kpi_peak: ["10 分钟峰值", "Peak in 10 min"], kpi_flood: ["处于报警泛滥的时间", "Time in flood"], kpi_floods: ["{n} 次泛滥（10 分钟超过 10 条）", "{n} floods (over 10 in 10 min)"],
  kpi_ack: ["确认用时（中位）", "Time to acknowledge"], kpi_slow: ["最慢一成 {time}", "slowest tenth {time}"], kpi_chatter: ["抖动报警", "Chattering"], kpi_fleeting: ["一分钟内自行恢复 {n}", "{n} returned within a minute"], kpi_stale: ["陈旧报警", "Stale"], kpi_stale_about: ["持续超过 24 小时", "active for more than 24 h"], kpi_raised: ["报警总数", "Raised"], kpi_a_day: ["每日 {n}", "{n} a day"], kpi_mix: ["级别分布", "By severity"],
  kpi_top: ["最频繁的十项", "The ten busiest"], raised: ["次数", "Raised"], kpi_by_day: ["每日报警数", "Raises by day"], kpi_about: ["分级参照 EEMUA 191（单操作员稳态）；泛滥、陈旧、抖动参照 ISA-18.2。均按通行引述，未经原文核实。", "Grades after EEMUA 191 (one operator, steady operation); flood, stale and chatter after ISA-18.2: as widely cited, not verified."],
  "grade.acceptable": ["可接受", "very likely acceptable"], "grade.manageable": ["可管理", "manageable"], "grade.over_demanding": ["负担过重", "likely over-demanding"], "grade.unacceptable": ["不可接受", "very likely unacceptable"],

  first_out: ["首发", "came first"], followed: ["随后 {n} 条", "{n} followed"], ack_flood_about: ["同一波报警的 {n} 条将逐条确认并留痕。", "Each of the {n} alerts of this flood is acknowledged by itself and recorded."], first_out_of: ["首发报警", "Came first"],
  "alert.out_of_service": ["已停用", "out of service"], "change.out_of_service": ["停用", "out of service"], "change.in_service": ["恢复投用", "back in service"], "change.escalate": ["升级通知", "escalated"],
  whole_base: ["全基地", "Whole base"], "range.auto": ["告警时段", "This alert"], case_number: ["处置单 #{id}", "Case #{id}"],
  spool_alarm: ["缓存告警", "Spool alarm"], "spool_alarm.filling": ["{source} 缓存将满（{percent}）", "{source}: spool filling ({percent})"], "spool_alarm.dropping": ["{source} 缓存已满，丢弃 {n} 条", "{source}: spool full, {n} readings dropped"],
};
