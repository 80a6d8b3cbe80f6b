// What Grafana publishes of its dashboards (@grafana/schema), put together for the dashboard of this repository: the test
// writes the dashboard after this text, as a `Pressroom`, and has TypeScript check it.
import type * as schema from '@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as statetimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type { DataQuery } from '@grafana/schema';

// An enum as it is written in JSON: the text of a member, not the member.
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

// Not published: the query of the data source `prometheus`.
interface Query extends DataQuery {
  datasource: { type: 'prometheus'; uid: '${datasource}' };
  editorMode: 'code';
  expr: string;
  format?: 'heatmap' | 'table';
  instant: boolean;
  legendFormat?: string;
  range: boolean;
}

interface PanelOf<Type, Options, Custom> extends Omit<schema.Panel, 'fieldConfig' | 'options' | 'targets' | 'type'> {
  description: string;
  fieldConfig: Omit<schema.FieldConfigSource, 'defaults'> & {
    defaults: Omit<schema.FieldConfig, 'custom'> & { custom?: Custom };
  };
  options: Options;
  targets: Query[];
  title: string;
  type: Type;
}

type Panel =
  | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | PanelOf<'stat', stat.Options, never>
  | PanelOf<'state-timeline', statetimeline.Options, statetimeline.FieldConfig>
  | PanelOf<'table', table.Options, table.FieldConfig>
  | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>;

type Row = Omit<schema.RowPanel, 'panels'> & { panels: Panel[] };

type Pressroom = Json<Omit<schema.Dashboard, 'panels'> & { panels: (Panel | Row)[] }>;

